//! The SQL of webhooks: the rows of deliveries, and in `paths` those of open paths.

mod paths;

use anyhow::Context as _;
use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
pub(super) use paths::{close_path, open_path, paths};
use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Expr, ExprTrait as _};
use sea_orm::{ColumnTrait as _, EntityTrait, QueryFilter as _, QueryOrder as _, QuerySelect as _};
use uuid::Uuid;

use super::delivery::{DeliveryAttempt, DeliveryId, DeliveryState, DeliveryView, WebhookDelivery, WebhookRequest};
use super::rules::RetryDecision;
use crate::db::{Db, InstanceId, Tx};

/// The count and size of an instance's deliveries in one state.
#[derive(Clone, Copy, Debug)]
pub(super) struct InboxSummary {
    pub instance: InstanceId,
    pub state: DeliveryState,
    pub deliveries: u64,
    pub bytes: u64,
    /// The earliest time among them. Meaningful for waiting deliveries only.
    pub next_attempt_at: Timestamp,
}

/// A waiting delivery, without headers and body: those of a whole inbox may take 16 MiB.
#[derive(Clone, Debug)]
pub(super) struct QueuedDelivery {
    pub id: DeliveryId,
    pub path: String,
    pub next_attempt_at: Timestamp,
    pub is_alarm: bool,
    pub attempts: i64,
}

/// A summary for each instance and state.
pub(super) async fn summaries(db: &Db) -> Result<Vec<InboxSummary>> {
    type SummaryColumns = (InstanceId, String, i64, Option<i64>, Option<i64>);
    let rows: Vec<SummaryColumns> = webhook_delivery::Entity::find()
        .select_only()
        .column(webhook_delivery::Column::InstanceId)
        .column(webhook_delivery::Column::State)
        .column_as(webhook_delivery::Column::Id.count(), "deliveries")
        // PostgreSQL's sum of bigints is a numeric, which does not decode as an i64.
        .column_as(Expr::col(webhook_delivery::Column::Bytes).sum().cast_as("bigint"), "bytes")
        .column_as(webhook_delivery::Column::NextAttemptAtMs.min(), "next_attempt_at_ms")
        .group_by(webhook_delivery::Column::InstanceId)
        .group_by(webhook_delivery::Column::State)
        .into_tuple()
        .all(db.read())
        .await?;
    let summaries = rows.into_iter().filter_map(|(instance, state, deliveries, bytes, next_attempt_at)| {
        let unknown = |error| {
            tracing::error!(instance.id = %instance, deliveries, ?error, "webhook deliveries are left out");
        };
        Some(InboxSummary {
            instance,
            state: state.parse().map_err(unknown).ok()?,
            deliveries: natural(deliveries),
            bytes: natural(bytes.unwrap_or(0)),
            next_attempt_at: Timestamp(next_attempt_at.unwrap_or(0)),
        })
    });
    Ok(summaries.collect())
}

/// The highest sequence number so far; 0 without any row.
pub(super) async fn last_sequence(db: &Db) -> Result<i64> {
    let last: Option<Option<i64>> = webhook_delivery::Entity::find()
        .select_only()
        .column_as(webhook_delivery::Column::Sequence.max(), "sequence")
        .into_tuple()
        .one(db.read())
        .await?;
    Ok(last.flatten().unwrap_or(0))
}

/// Inserts a delivery that is due now.
pub(super) async fn insert(
    tx: &Tx,
    delivery: &WebhookDelivery,
    sequence: i64,
    now: Timestamp,
    give_up_at: Timestamp,
) -> Result<()> {
    let request = delivery.request.as_ref();
    let row = webhook_delivery::ActiveModel {
        id: Set(delivery.id.0),
        instance_id: Set(delivery.instance),
        sequence: Set(sequence),
        alarm: Set(delivery.alarm.clone()),
        method: Set(request.map_or_else(String::new, |request| request.method.clone())),
        path: Set(delivery.path().to_owned()),
        target: Set(request.map(|request| request.target.clone())),
        headers: Set(serde_json::to_string(request.map_or(&[][..], |request| &request.headers))
            .context("pairs of texts are JSON")?),
        body: Set(request.map_or_else(Vec::new, |request| request.body.to_vec())),
        bytes: Set(whole(delivery.bytes())),
        state: Set(DeliveryState::Waiting.as_str().to_owned()),
        attempts: Set(0),
        arrived_at_ms: Set(now.0),
        next_attempt_at_ms: Set(now.0),
        give_up_at_ms: Set(give_up_at.0),
        done_at_ms: Set(None),
        last_result: Set(None),
    };
    webhook_delivery::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// The waiting deliveries of `instance` in the order of arrival, at most `limit`.
pub(super) async fn waiting(db: &Db, instance: InstanceId, limit: u64) -> Result<Vec<QueuedDelivery>> {
    let rows: Vec<(Uuid, String, i64, Option<String>, i64)> = webhook_delivery::Entity::find()
        .select_only()
        .columns([
            webhook_delivery::Column::Id,
            webhook_delivery::Column::Path,
            webhook_delivery::Column::NextAttemptAtMs,
            webhook_delivery::Column::Alarm,
            webhook_delivery::Column::Attempts,
        ])
        .filter(webhook_delivery::Column::InstanceId.eq(instance))
        .filter(webhook_delivery::Column::State.eq(DeliveryState::Waiting.as_str()))
        .order_by_asc(webhook_delivery::Column::Sequence)
        .limit(limit)
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(rows
        .into_iter()
        .map(|(id, path, next_attempt_at, alarm, attempts)| QueuedDelivery {
            id: DeliveryId(id),
            path,
            next_attempt_at: Timestamp(next_attempt_at),
            is_alarm: alarm.is_some(),
            attempts,
        })
        .collect())
}

/// Counts one more attempt and reads the whole delivery; `None` when it is no longer waiting.
pub(super) async fn begin_attempt(tx: &Tx, id: DeliveryId) -> Result<Option<DeliveryAttempt>> {
    // Order: the update comes before the read. It locks the row, so that an owner's discard either waits for this
    // transaction or is seen by it.
    let counted = webhook_delivery::Entity::update_many()
        .col_expr(webhook_delivery::Column::Attempts, Expr::col(webhook_delivery::Column::Attempts).add(1))
        .filter(webhook_delivery::Column::Id.eq(id.0))
        .filter(webhook_delivery::Column::State.eq(DeliveryState::Waiting.as_str()))
        .exec(tx)
        .await?;
    if counted.rows_affected == 0 {
        return Ok(None);
    }
    let Some(row) = webhook_delivery::Entity::find_by_id(id.0).one(tx).await? else { return Ok(None) };
    // Sent without headers: with an error here the delivery would block those after it on its path for ever.
    let headers = serde_json::from_str(&row.headers).unwrap_or_else(|error| {
        tracing::error!(delivery.id = %id, %error, "the headers of a stored delivery are not JSON; it is sent without");
        Vec::new()
    });
    let request =
        row.target.map(|target| WebhookRequest { method: row.method, target, headers, body: row.body.into() });
    let delivery = WebhookDelivery { id, instance: row.instance_id, alarm: row.alarm, request };
    Ok(Some(DeliveryAttempt { delivery, number: row.attempts, give_up_at: Timestamp(row.give_up_at_ms) }))
}

/// Writes the decision on a waiting delivery and returns its bytes. `None`, without a write, when the delivery is no
/// longer waiting.
pub(super) async fn end_attempt(
    tx: &Tx,
    instance: InstanceId,
    id: DeliveryId,
    decision: RetryDecision,
    result: &str,
    now: Timestamp,
) -> Result<Option<u64>> {
    let Some((DeliveryState::Waiting, bytes)) = lock_undelivered(tx, instance, id).await? else { return Ok(None) };
    let update = webhook_delivery::Entity::update_many()
        .col_expr(webhook_delivery::Column::LastResult, Expr::value(result))
        .filter(webhook_delivery::Column::Id.eq(id.0));
    let update = match decision {
        RetryDecision::RetryAt(at) => update.col_expr(webhook_delivery::Column::NextAttemptAtMs, Expr::value(at.0)),
        RetryDecision::DeadLetter => update
            .col_expr(webhook_delivery::Column::State, Expr::value(DeliveryState::DeadLetter.as_str()))
            .col_expr(webhook_delivery::Column::DoneAtMs, Expr::value(now.0)),
        // The body is no longer needed; the row stays for the list of delivered entries.
        RetryDecision::Delivered => update
            .col_expr(webhook_delivery::Column::State, Expr::value(DeliveryState::Delivered.as_str()))
            .col_expr(webhook_delivery::Column::DoneAtMs, Expr::value(now.0))
            .col_expr(webhook_delivery::Column::Headers, Expr::value("[]"))
            .col_expr(webhook_delivery::Column::Body, Expr::value(Vec::<u8>::new())),
    };
    update.exec(tx).await?;
    Ok(Some(bytes))
}

/// Makes an undelivered delivery due now and returns its previous state; `None` when the instance has no such delivery.
pub(super) async fn retry(
    tx: &Tx,
    instance: InstanceId,
    id: DeliveryId,
    now: Timestamp,
    give_up_at: Timestamp,
) -> Result<Option<DeliveryState>> {
    let Some((before, _)) = lock_undelivered(tx, instance, id).await? else { return Ok(None) };
    webhook_delivery::Entity::update_many()
        .col_expr(webhook_delivery::Column::State, Expr::value(DeliveryState::Waiting.as_str()))
        .col_expr(webhook_delivery::Column::NextAttemptAtMs, Expr::value(now.0))
        .col_expr(webhook_delivery::Column::GiveUpAtMs, Expr::value(give_up_at.0))
        .col_expr(webhook_delivery::Column::DoneAtMs, Expr::value(None::<i64>))
        .filter(webhook_delivery::Column::Id.eq(id.0))
        .exec(tx)
        .await?;
    Ok(Some(before))
}

/// Deletes an undelivered delivery and returns its state and bytes.
pub(super) async fn discard(tx: &Tx, instance: InstanceId, id: DeliveryId) -> Result<Option<(DeliveryState, u64)>> {
    let Some((state, bytes)) = lock_undelivered(tx, instance, id).await? else { return Ok(None) };
    webhook_delivery::Entity::delete_by_id(id.0).exec(tx).await?;
    Ok(Some((state, bytes)))
}

/// State and bytes of a delivery that is waiting or a dead letter. Locks the row until the transaction ends: an owner's
/// retry or discard may race with the end of an attempt.
async fn lock_undelivered(tx: &Tx, instance: InstanceId, id: DeliveryId) -> Result<Option<(DeliveryState, u64)>> {
    let row: Option<(String, i64)> = webhook_delivery::Entity::find_by_id(id.0)
        .select_only()
        .columns([webhook_delivery::Column::State, webhook_delivery::Column::Bytes])
        .filter(webhook_delivery::Column::InstanceId.eq(instance))
        .filter(webhook_delivery::Column::State.is_in(UNDELIVERED.map(DeliveryState::as_str)))
        // `FOR UPDATE` on PostgreSQL. SQLite has no such clause and needs none: `BEGIN IMMEDIATE` holds its only write
        // lock.
        .lock_exclusive()
        .into_tuple()
        .one(tx)
        .await?;
    row.map(|(state, bytes)| Ok((state.parse()?, natural(bytes)))).transpose()
}

/// The sequence number of a delivery in any state; `None` when the instance has none of this id.
pub(super) async fn sequence(db: &Db, instance: InstanceId, id: DeliveryId) -> Result<Option<i64>> {
    Ok(webhook_delivery::Entity::find_by_id(id.0)
        .select_only()
        .column(webhook_delivery::Column::Sequence)
        .filter(webhook_delivery::Column::InstanceId.eq(instance))
        .into_tuple()
        .one(db.read())
        .await?)
}

/// The latest deliveries in one state with a sequence number below `before`, newest first.
pub(super) async fn latest(
    db: &Db,
    instance: InstanceId,
    state: DeliveryState,
    before: i64,
    limit: u64,
) -> Result<Vec<DeliveryView>> {
    let rows: Vec<ListedColumns> = webhook_delivery::Entity::find()
        .select_only()
        .columns([
            webhook_delivery::Column::Id,
            webhook_delivery::Column::Alarm,
            webhook_delivery::Column::Method,
            webhook_delivery::Column::Path,
            webhook_delivery::Column::Bytes,
            webhook_delivery::Column::Attempts,
            webhook_delivery::Column::ArrivedAtMs,
            webhook_delivery::Column::NextAttemptAtMs,
            webhook_delivery::Column::DoneAtMs,
            webhook_delivery::Column::LastResult,
        ])
        .filter(webhook_delivery::Column::InstanceId.eq(instance))
        .filter(webhook_delivery::Column::State.eq(state.as_str()))
        .filter(webhook_delivery::Column::Sequence.lt(before))
        .order_by_desc(webhook_delivery::Column::Sequence)
        .limit(limit)
        .into_tuple()
        .all(db.read())
        .await?;
    Ok(rows.into_iter().map(|columns| view(columns, state)).collect())
}

fn view(columns: ListedColumns, state: DeliveryState) -> DeliveryView {
    let (id, alarm, method, path, bytes, attempts, arrived, next_attempt, done, last_result) = columns;
    DeliveryView {
        id: DeliveryId(id),
        alarm,
        method,
        path,
        bytes: natural(bytes),
        state,
        attempts,
        arrived_at: Timestamp(arrived),
        // In the other states the column still holds the time of the last retry, which is meaningless to an owner.
        next_attempt_at: (state == DeliveryState::Waiting).then_some(Timestamp(next_attempt)),
        done_at: done.map(Timestamp),
        last_result,
    }
}

/// The columns of [`latest`], in the same order.
type ListedColumns = (Uuid, Option<String>, String, String, i64, i64, i64, i64, Option<i64>, Option<String>);

/// Deletes delivered entries that arrived before `before`, or that are not among the instance's newest `most`.
pub(super) async fn prune_delivered(tx: &Tx, instance: InstanceId, before: Timestamp, most: u64) -> Result<()> {
    // The sequence number of the oldest entry that stays; `None` when there are fewer.
    let oldest_listed: Option<i64> = webhook_delivery::Entity::find()
        .select_only()
        .column(webhook_delivery::Column::Sequence)
        .filter(webhook_delivery::Column::InstanceId.eq(instance))
        .filter(webhook_delivery::Column::State.eq(DeliveryState::Delivered.as_str()))
        .order_by_desc(webhook_delivery::Column::Sequence)
        .offset(most.saturating_sub(1))
        .limit(1)
        .into_tuple()
        .one(tx)
        .await?;
    webhook_delivery::Entity::delete_many()
        .filter(webhook_delivery::Column::InstanceId.eq(instance))
        .filter(webhook_delivery::Column::State.eq(DeliveryState::Delivered.as_str()))
        .filter(
            webhook_delivery::Column::ArrivedAtMs
                .lt(before.0)
                .or(webhook_delivery::Column::Sequence.lt(oldest_listed.unwrap_or(i64::MIN))),
        )
        .exec(tx)
        .await?;
    Ok(())
}

/// Whether a delivery of this alarm is waiting.
pub(super) async fn alarm_waits(tx: &Tx, instance: InstanceId, alarm: &str) -> Result<bool> {
    let one: Option<Uuid> = webhook_delivery::Entity::find()
        .select_only()
        .column(webhook_delivery::Column::Id)
        .filter(webhook_delivery::Column::InstanceId.eq(instance))
        .filter(webhook_delivery::Column::State.eq(DeliveryState::Waiting.as_str()))
        .filter(webhook_delivery::Column::Alarm.eq(alarm))
        .limit(1)
        .into_tuple()
        .one(tx)
        .await?;
    Ok(one.is_some())
}

/// Deletes the dead letters of this alarm, and returns their number.
pub(super) async fn delete_dead_letters_of_alarm(tx: &Tx, instance: InstanceId, alarm: &str) -> Result<u64> {
    let gone = webhook_delivery::Entity::delete_many()
        .filter(webhook_delivery::Column::InstanceId.eq(instance))
        .filter(webhook_delivery::Column::State.eq(DeliveryState::DeadLetter.as_str()))
        .filter(webhook_delivery::Column::Alarm.eq(alarm))
        .exec(tx)
        .await?;
    Ok(gone.rows_affected)
}

/// Deletes every path and delivery of `instance`.
pub(super) async fn forget(tx: &Tx, instance: InstanceId) -> Result<()> {
    webhook_delivery::Entity::delete_many().filter(webhook_delivery::Column::InstanceId.eq(instance)).exec(tx).await?;
    paths::forget(tx, instance).await
}

const UNDELIVERED: [DeliveryState; 2] = [DeliveryState::Waiting, DeliveryState::DeadLetter];

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn whole(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

mod webhook_delivery {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "webhook_deliveries")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub instance_id: InstanceId,
        pub sequence: i64,
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
        pub next_attempt_at_ms: i64,
        pub give_up_at_ms: i64,
        pub done_at_ms: Option<i64>,
        pub last_result: Option<String>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
