//! The mailbox's rows: all SQL of this room.

use anyhow::Context as _;
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _, OnConflict};
use sea_orm::{ColumnTrait as _, EntityTrait, QueryFilter as _, QueryOrder as _, QuerySelect as _, TryInsertResult};
use uuid::Uuid;

use super::rules::Fate;
use super::{Letter, LetterId, LetterView, Parcel, State};
use crate::clock::Timestamp;
use crate::db::{Db, InstanceId, Tx};
use crate::error::Result;

/// What is kept for an instance: how many letters, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Kept {
    pub letters: u64,
    pub bytes: u64,
}

/// A letter that waits, without what is in it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub id: LetterId,
    pub path: String,
    pub try_at: Timestamp,
    pub alarm: bool,
    pub attempts: i64,
}

/// A letter that was taken out to be delivered now.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    pub letter: Letter,
    pub attempt: i64,
    pub give_up_at: Timestamp,
}

pub(super) async fn paths(db: &Db) -> Result<Vec<(InstanceId, String, Timestamp)>> {
    let rows = mail_path::Entity::find().order_by_asc(mail_path::Column::Path).all(db.read()).await?;
    Ok(rows.into_iter().map(|row| (row.instance_id, row.path, Timestamp(row.opened_at_ms))).collect())
}

/// `false` when it is open already.
pub(super) async fn open_path(tx: &Tx, instance: InstanceId, path: &str, now: Timestamp) -> Result<bool> {
    let row =
        mail_path::ActiveModel { instance_id: Set(instance), path: Set(path.to_owned()), opened_at_ms: Set(now.0) };
    let same = OnConflict::columns([mail_path::Column::InstanceId, mail_path::Column::Path]).do_nothing().to_owned();
    let written = mail_path::Entity::insert(row).on_conflict(same).try_insert().exec_without_returning(tx).await?;
    Ok(matches!(written, TryInsertResult::Inserted(1)))
}

/// `false` when it was not open.
pub(super) async fn close_path(tx: &Tx, instance: InstanceId, path: &str) -> Result<bool> {
    let gone = mail_path::Entity::delete_many()
        .filter(mail_path::Column::InstanceId.eq(instance))
        .filter(mail_path::Column::Path.eq(path))
        .exec(tx)
        .await?;
    Ok(gone.rows_affected > 0)
}

/// For each instance with letters: how many are in each state, their bytes, and when one is to be tried next.
pub(super) async fn summary(db: &Db) -> Result<Vec<(InstanceId, State, Kept, Timestamp)>> {
    type Summed = (InstanceId, String, i64, Option<i64>, Option<i64>);
    let rows: Vec<Summed> = letter::Entity::find()
        .select_only()
        .column(letter::Column::InstanceId)
        .column(letter::Column::State)
        .column_as(letter::Column::Id.count(), "letters")
        .column_as(Expr::col(letter::Column::Bytes).sum().cast_as("bigint"), "bytes")
        .column_as(letter::Column::TryAtMs.min(), "try_at_ms")
        .group_by(letter::Column::InstanceId)
        .group_by(letter::Column::State)
        .into_tuple()
        .all(db.read())
        .await?;
    rows.into_iter()
        .map(|(instance, state, letters, bytes, try_at)| {
            let kept = Kept { letters: natural(letters), bytes: natural(bytes.unwrap_or(0)) };
            Ok((instance, State::of_word(&state)?, kept, Timestamp(try_at.unwrap_or(0))))
        })
        .collect()
}

/// The highest number given so far.
pub(super) async fn last_number(db: &Db) -> Result<i64> {
    let last: Option<Option<i64>> = letter::Entity::find()
        .select_only()
        .column_as(letter::Column::Number.max(), "number")
        .into_tuple()
        .one(db.read())
        .await?;
    Ok(last.flatten().unwrap_or(0))
}

pub(super) async fn insert(tx: &Tx, letter: &Letter, number: i64, now: Timestamp, give_up_at: Timestamp) -> Result<()> {
    let row = letter::ActiveModel {
        id: Set(letter.id.0),
        instance_id: Set(letter.instance),
        number: Set(number),
        alarm: Set(letter.alarm.clone()),
        method: Set(letter.parcel.as_ref().map_or_else(String::new, |parcel| parcel.method.clone())),
        path: Set(letter.path().to_owned()),
        target: Set(letter.parcel.as_ref().map(|parcel| parcel.target.clone())),
        headers: Set(serde_json::to_string(letter.parcel.as_ref().map_or(&[][..], |parcel| &parcel.headers))
            .context("pairs of texts are JSON")?),
        body: Set(letter.parcel.as_ref().map_or_else(Vec::new, |parcel| parcel.body.to_vec())),
        bytes: Set(whole(letter.bytes())),
        state: Set(State::Waiting.word().to_owned()),
        attempts: Set(0),
        arrived_at_ms: Set(now.0),
        try_at_ms: Set(now.0),
        give_up_at_ms: Set(give_up_at.0),
        done_at_ms: Set(None),
        answer: Set(None),
    };
    letter::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Letters of `instance` that wait, in the order of their arrival, at most `limit`.
pub(super) async fn waiting(db: &Db, instance: InstanceId, limit: u64) -> Result<Vec<Waiting>> {
    let rows: Vec<(Uuid, String, i64, Option<String>, i64)> = letter::Entity::find()
        .select_only()
        .columns([
            letter::Column::Id,
            letter::Column::Path,
            letter::Column::TryAtMs,
            letter::Column::Alarm,
            letter::Column::Attempts,
        ])
        .filter(letter::Column::InstanceId.eq(instance))
        .filter(letter::Column::State.eq(State::Waiting.word()))
        .order_by_asc(letter::Column::Number)
        .limit(limit)
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, path, try_at, alarm, attempts)| Waiting {
            id: LetterId(id),
            path,
            try_at: Timestamp(try_at),
            alarm: alarm.is_some(),
            attempts,
        })
        .collect())
}

/// Counts one more attempt and gives the letter with all that is in it; `None` when it waits no more.
pub(super) async fn take(tx: &Tx, id: LetterId) -> Result<Option<Taken>> {
    let counted = letter::Entity::update_many()
        .col_expr(letter::Column::Attempts, Expr::col(letter::Column::Attempts).add(1))
        .filter(letter::Column::Id.eq(id.0))
        .filter(letter::Column::State.eq(State::Waiting.word()))
        .exec(tx)
        .await?;
    if counted.rows_affected == 0 {
        return Ok(None);
    }
    let Some(row) = letter::Entity::find_by_id(id.0).one(tx).await? else { return Ok(None) };
    let headers = serde_json::from_str(&row.headers).context("a stored letter's headers are not JSON")?;
    let parcel = row.target.map(|target| Parcel { method: row.method, target, headers, body: row.body.into() });
    let letter = Letter { id, instance: row.instance_id, alarm: row.alarm, parcel };
    Ok(Some(Taken { letter, attempt: row.attempts, give_up_at: Timestamp(row.give_up_at_ms) }))
}

/// Writes what became of a letter that waits, and says its bytes; `None`, and nothing is written, when it waits no more.
pub(super) async fn settle(
    tx: &Tx,
    (instance, id): (InstanceId, LetterId),
    fate: Fate,
    answer: &str,
    now: Timestamp,
) -> Result<Option<u64>> {
    let Some((State::Waiting, bytes)) = kept(tx, instance, id).await? else { return Ok(None) };
    let update = letter::Entity::update_many()
        .col_expr(letter::Column::Answer, Expr::value(answer))
        .filter(letter::Column::Id.eq(id.0));
    let update = match fate {
        Fate::TryAt(at) => update.col_expr(letter::Column::TryAtMs, Expr::value(at.0)),
        Fate::Failed => update
            .col_expr(letter::Column::State, Expr::value(State::Failed.word()))
            .col_expr(letter::Column::DoneAtMs, Expr::value(now.0)),
        Fate::Delivered => update
            .col_expr(letter::Column::State, Expr::value(State::Delivered.word()))
            .col_expr(letter::Column::DoneAtMs, Expr::value(now.0))
            .col_expr(letter::Column::Headers, Expr::value("[]"))
            .col_expr(letter::Column::Body, Expr::value(Vec::<u8>::new())),
    };
    update.exec(tx).await?;
    Ok(Some(bytes))
}

/// Has a letter tried now, also one that failed; where it stood before, `None` when the instance has no such letter.
pub(super) async fn retry(
    tx: &Tx,
    instance: InstanceId,
    id: LetterId,
    now: Timestamp,
    give_up_at: Timestamp,
) -> Result<Option<State>> {
    let Some((before, _)) = kept(tx, instance, id).await? else { return Ok(None) };
    letter::Entity::update_many()
        .col_expr(letter::Column::State, Expr::value(State::Waiting.word()))
        .col_expr(letter::Column::TryAtMs, Expr::value(now.0))
        .col_expr(letter::Column::GiveUpAtMs, Expr::value(give_up_at.0))
        .col_expr(letter::Column::DoneAtMs, Expr::value(None::<i64>))
        .filter(letter::Column::Id.eq(id.0))
        .exec(tx)
        .await?;
    Ok(Some(before))
}

/// Throws a letter away that waits or failed.
pub(super) async fn discard(tx: &Tx, instance: InstanceId, id: LetterId) -> Result<Option<(State, u64)>> {
    let Some((state, bytes)) = kept(tx, instance, id).await? else { return Ok(None) };
    letter::Entity::delete_by_id(id.0).exec(tx).await?;
    Ok(Some((state, bytes)))
}

/// State and bytes of a letter that waits or failed, held until the transaction ends.
async fn kept(tx: &Tx, instance: InstanceId, id: LetterId) -> Result<Option<(State, u64)>> {
    let row: Option<(String, i64)> = letter::Entity::find_by_id(id.0)
        .select_only()
        .columns([letter::Column::State, letter::Column::Bytes])
        .filter(letter::Column::InstanceId.eq(instance))
        .filter(letter::Column::State.is_in(KEPT.map(State::word)))
        .lock_exclusive()
        .into_tuple()
        .one(tx)
        .await?;
    row.map(|(state, bytes)| Ok((State::of_word(&state)?, natural(bytes)))).transpose()
}

/// The latest letters, newest first: those that wait or failed before those that are done with.
pub(super) async fn latest(db: &Db, instance: InstanceId, state: State, limit: u64) -> Result<Vec<LetterView>> {
    let rows: Vec<Listed> = letter::Entity::find()
        .select_only()
        .columns([
            letter::Column::Id,
            letter::Column::Alarm,
            letter::Column::Method,
            letter::Column::Path,
            letter::Column::Bytes,
            letter::Column::Attempts,
            letter::Column::ArrivedAtMs,
            letter::Column::TryAtMs,
            letter::Column::DoneAtMs,
            letter::Column::Answer,
        ])
        .filter(letter::Column::InstanceId.eq(instance))
        .filter(letter::Column::State.eq(state.word()))
        .order_by_desc(letter::Column::Number)
        .limit(limit)
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, alarm, method, path, bytes, attempts, arrived, try_at, done, answer)| LetterView {
            id: LetterId(id),
            alarm,
            method,
            path,
            bytes: natural(bytes),
            state,
            attempts,
            arrived_at: Timestamp(arrived),
            try_at: (state == State::Waiting).then_some(Timestamp(try_at)),
            done_at: done.map(Timestamp),
            answer,
        })
        .collect())
}

type Listed = (Uuid, Option<String>, String, String, i64, i64, i64, i64, Option<i64>, Option<String>);

/// Deletes delivered letters that came before `before`, or that are not among the instance's newest `most`.
pub(super) async fn forget_delivered(tx: &Tx, instance: InstanceId, before: Timestamp, most: u64) -> Result<()> {
    let oldest_listed: Option<i64> = letter::Entity::find()
        .select_only()
        .column(letter::Column::Number)
        .filter(letter::Column::InstanceId.eq(instance))
        .filter(letter::Column::State.eq(State::Delivered.word()))
        .order_by_desc(letter::Column::Number)
        .offset(most.saturating_sub(1))
        .limit(1)
        .into_tuple()
        .one(tx)
        .await?;
    letter::Entity::delete_many()
        .filter(letter::Column::InstanceId.eq(instance))
        .filter(letter::Column::State.eq(State::Delivered.word()))
        .filter(
            letter::Column::ArrivedAtMs.lt(before.0).or(letter::Column::Number.lt(oldest_listed.unwrap_or(i64::MIN))),
        )
        .exec(tx)
        .await?;
    Ok(())
}

/// Whether a letter of this alarm waits still.
pub(super) async fn alarm_waits(tx: &Tx, instance: InstanceId, alarm: &str) -> Result<bool> {
    let one: Option<Uuid> = letter::Entity::find()
        .select_only()
        .column(letter::Column::Id)
        .filter(letter::Column::InstanceId.eq(instance))
        .filter(letter::Column::State.eq(State::Waiting.word()))
        .filter(letter::Column::Alarm.eq(alarm))
        .limit(1)
        .into_tuple()
        .one(tx)
        .await?;
    Ok(one.is_some())
}

/// Deletes the failed letters of this alarm; how many.
pub(super) async fn forget_failed_alarm(tx: &Tx, instance: InstanceId, alarm: &str) -> Result<u64> {
    let gone = letter::Entity::delete_many()
        .filter(letter::Column::InstanceId.eq(instance))
        .filter(letter::Column::State.eq(State::Failed.word()))
        .filter(letter::Column::Alarm.eq(alarm))
        .exec(tx)
        .await?;
    Ok(gone.rows_affected)
}

/// Deletes everything of `instance`.
pub(super) async fn forget(tx: &Tx, instance: InstanceId) -> Result<()> {
    letter::Entity::delete_many().filter(letter::Column::InstanceId.eq(instance)).exec(tx).await?;
    mail_path::Entity::delete_many().filter(mail_path::Column::InstanceId.eq(instance)).exec(tx).await?;
    Ok(())
}

const KEPT: [State; 2] = [State::Waiting, State::Failed];

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

mod mail_path {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "mail_paths")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub instance_id: InstanceId,
        #[sea_orm(primary_key, auto_increment = false)]
        pub path: String,
        pub opened_at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod letter {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "letters")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub instance_id: InstanceId,
        pub number: i64,
        pub alarm: Option<String>,
        pub method: String,
        pub path: String,
        pub target: Option<String>,
        pub headers: String,
        pub body: Vec<u8>,
        pub bytes: i64,
        pub state: String,
        pub attempts: i64,
        pub arrived_at_ms: i64,
        pub try_at_ms: i64,
        pub give_up_at_ms: i64,
        pub done_at_ms: Option<i64>,
        pub answer: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
