//! The SQL of short-lived rows: sign-ups, challenges of pending ceremonies and hand-offs, the operator's set-up link.

use std::collections::HashSet;

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use berth_ground::handle::Handle;
use sea_orm::ActiveValue::Set;
use sea_orm::Condition;
use sea_orm::entity::prelude::*;
use sea_orm::sea_query::Query;
use webauthn_rs::prelude::Passkey;

use super::accounts::{parse_role, role_as_str};
use super::credentials::{passkey_from, passkey_text};
use super::{PURGE_BATCH, conflict_if_duplicate, unreadable};
use crate::accounts::Role;
use crate::db::{AccountId, Tx};

mod signups {
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "signups")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub token_hash: Vec<u8>,
        pub account_id: AccountId,
        pub handle: String,
        pub skeleton: String,
        pub role: String,
        pub passkey: Option<String>,
        pub totp_secret: Vec<u8>,
        pub totp_step: Option<i64>,
        pub recovery_codes: Option<Vec<u8>>,
        pub expires_at_ms: i64,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod challenges {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "challenges")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub token_hash: Vec<u8>,
        pub purpose: String,
        pub state: String,
        pub expires_at_ms: i64,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

mod setup_links {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "setup_links")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub token_hash: Vec<u8>,
        pub expires_at_ms: i64,
    }

    #[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

/// Expired challenges that each new login deletes. More than one, so that the table shrinks.
const EXPIRED_PER_LOG_IN: u64 = 4;

/// A sign-up as stored.
#[derive(Clone, Debug)]
pub(in crate::accounts) struct StoredSignUp {
    pub(in crate::accounts) id: Uuid,
    /// The id that the account will have.
    pub(in crate::accounts) account: AccountId,
    pub(in crate::accounts) handle: Handle,
    pub(in crate::accounts) role: Role,
    pub(in crate::accounts) passkey: Option<Passkey>,
    /// Encrypted, with the account's id as associated data.
    pub(in crate::accounts) totp_secret: Vec<u8>,
    /// The time step of the code that confirmed the authenticator app.
    pub(in crate::accounts) totp_step: Option<i64>,
    /// Encrypted like the secret. Present once the app is confirmed.
    pub(in crate::accounts) recovery_codes: Option<Vec<u8>>,
    pub(in crate::accounts) expires_at: Timestamp,
}

impl TryFrom<signups::Model> for StoredSignUp {
    type Error = berth_ground::error::Error;

    fn try_from(row: signups::Model) -> Result<Self> {
        Ok(Self {
            id: row.id,
            account: row.account_id,
            handle: Handle::parse(&row.handle).map_err(|_| unreadable("a handle"))?,
            role: parse_role(&row.role)?,
            passkey: row.passkey.as_deref().map(passkey_from).transpose()?,
            totp_secret: row.totp_secret,
            totp_step: row.totp_step,
            recovery_codes: row.recovery_codes,
            expires_at: Timestamp(row.expires_at_ms),
        })
    }
}

/// The sign-up with this token hash, if it has not expired.
pub(in crate::accounts) async fn sign_up_by_token<C: ConnectionTrait>(
    on: &C,
    token_hash: &[u8],
    now: Timestamp,
) -> Result<Option<StoredSignUp>> {
    let found = signups::Entity::find()
        .filter(signups::Column::TokenHash.eq(token_hash))
        .filter(signups::Column::ExpiresAtMs.gt(now.0))
        .one(on)
        .await?;
    found.map(StoredSignUp::try_from).transpose()
}

/// Inserts a sign-up, which reserves its handle. `Conflict` when another live sign-up holds the handle or a look-alike.
pub(in crate::accounts) async fn insert_sign_up(
    tx: &Tx,
    token_hash: Vec<u8>,
    sign_up: &StoredSignUp,
    now: Timestamp,
) -> Result<()> {
    // The unique index on `skeleton` also counts expired rows that the purge has not reached yet.
    signups::Entity::delete_many()
        .filter(signups::Column::Skeleton.eq(sign_up.handle.skeleton()))
        .filter(signups::Column::ExpiresAtMs.lte(now.0))
        .exec(tx)
        .await?;
    let row = signups::ActiveModel {
        id: Set(sign_up.id),
        token_hash: Set(token_hash),
        account_id: Set(sign_up.account),
        handle: Set(sign_up.handle.to_string()),
        skeleton: Set(sign_up.handle.skeleton()),
        role: Set(role_as_str(sign_up.role).to_owned()),
        passkey: Set(None),
        totp_secret: Set(sign_up.totp_secret.clone()),
        totp_step: Set(sign_up.totp_step),
        recovery_codes: Set(sign_up.recovery_codes.clone()),
        expires_at_ms: Set(sign_up.expires_at.0),
    };
    let written = signups::Entity::insert(row).exec_without_returning(tx).await;
    conflict_if_duplicate(
        written,
        "Another person is signing up with that handle right now. Please choose another one.",
    )
}

/// The subset of `skeletons` that live sign-ups hold.
pub(in crate::accounts) async fn skeletons_of_sign_ups<C: ConnectionTrait>(
    on: &C,
    skeletons: &[String],
    now: Timestamp,
) -> Result<HashSet<String>> {
    let rows = signups::Entity::find()
        .filter(signups::Column::Skeleton.is_in(skeletons))
        .filter(signups::Column::ExpiresAtMs.gt(now.0))
        .all(on)
        .await?;
    Ok(rows.into_iter().map(|row| row.skeleton).collect())
}

/// Replaces the sign-up's token hash.
pub(in crate::accounts) async fn set_sign_up_token(tx: &Tx, id: Uuid, token_hash: Vec<u8>) -> Result<()> {
    signups::Entity::update_many()
        .col_expr(signups::Column::TokenHash, Expr::value(token_hash))
        .filter(signups::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Stores the passkey, replacing an earlier one of the same sign-up.
pub(in crate::accounts) async fn set_sign_up_passkey(tx: &Tx, id: Uuid, passkey: &Passkey) -> Result<()> {
    signups::Entity::update_many()
        .col_expr(signups::Column::Passkey, Expr::value(passkey_text(passkey)?))
        .filter(signups::Column::Id.eq(id))
        .exec(tx)
        .await?;
    Ok(())
}

/// Stores that the app was confirmed by the code of `step`, and the sealed recovery codes. Of concurrent calls the
/// first wins, so that codes already shown on a page stay valid.
pub(in crate::accounts) async fn set_sign_up_confirmed(tx: &Tx, id: Uuid, step: i64, codes: Vec<u8>) -> Result<()> {
    signups::Entity::update_many()
        .col_expr(signups::Column::TotpStep, Expr::value(step))
        .col_expr(signups::Column::RecoveryCodes, Expr::value(codes))
        .filter(signups::Column::Id.eq(id))
        .filter(signups::Column::TotpStep.is_null())
        .exec(tx)
        .await?;
    Ok(())
}

/// Deletes a live sign-up and returns it. Of concurrent calls only one gets it.
pub(in crate::accounts) async fn take_sign_up(
    tx: &Tx,
    token_hash: &[u8],
    now: Timestamp,
) -> Result<Option<StoredSignUp>> {
    let mut taken = signups::Entity::delete_many()
        .filter(signups::Column::TokenHash.eq(token_hash))
        .filter(signups::Column::ExpiresAtMs.gt(now.0))
        .exec_with_returning(tx)
        .await?;
    taken.pop().map(StoredSignUp::try_from).transpose()
}

pub(in crate::accounts) async fn remove_sign_up(tx: &Tx, id: Uuid) -> Result<()> {
    signups::Entity::delete_by_id(id).exec(tx).await?;
    Ok(())
}

/// The operation for which a challenge was issued. A response is valid for that purpose only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::accounts) enum ChallengePurpose {
    SignUpPasskey,
    LogIn,
    LogInCode,
    PasskeyAdd,
    HandOff,
}

impl ChallengePurpose {
    fn as_str(self) -> &'static str {
        match self {
            Self::SignUpPasskey => "sign_up_passkey",
            Self::LogIn => "log_in",
            Self::LogInCode => "log_in_code",
            Self::PasskeyAdd => "passkey_add",
            Self::HandOff => "hand_off",
        }
    }
}

/// Stores a challenge until it is taken or expires, replacing one with the same hash.
pub(in crate::accounts) async fn put_challenge(
    tx: &Tx,
    token_hash: Vec<u8>,
    purpose: ChallengePurpose,
    state: String,
    expires_at: Timestamp,
) -> Result<()> {
    challenges::Entity::delete_by_id(token_hash.clone()).exec(tx).await?;
    let row = challenges::ActiveModel {
        token_hash: Set(token_hash),
        purpose: Set(purpose.as_str().to_owned()),
        state: Set(state),
        expires_at_ms: Set(expires_at.0),
    };
    challenges::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

/// Deletes a few expired challenges. Each new login calls it, so the table stays small even if the purge does not run.
pub(in crate::accounts) async fn drop_expired_challenges(tx: &Tx, now: Timestamp) -> Result<()> {
    let over = Query::select()
        .column(challenges::Column::TokenHash)
        .from(challenges::Entity)
        .and_where(challenges::Column::ExpiresAtMs.lte(now.0))
        .limit(EXPIRED_PER_LOG_IN)
        .to_owned();
    challenges::Entity::delete_many().filter(challenges::Column::TokenHash.in_subquery(over)).exec(tx).await?;
    Ok(())
}

/// Reads a challenge without consuming it.
pub(in crate::accounts) async fn peek_challenge<C: ConnectionTrait>(
    on: &C,
    token_hash: &[u8],
    purpose: ChallengePurpose,
    now: Timestamp,
) -> Result<Option<String>> {
    let found = challenges::Entity::find().filter(waiting(token_hash, purpose, now)).one(on).await?;
    Ok(found.map(|row| row.state))
}

/// Deletes a challenge and returns its state. Of concurrent calls only one gets it.
pub(in crate::accounts) async fn take_challenge(
    tx: &Tx,
    token_hash: &[u8],
    purpose: ChallengePurpose,
    now: Timestamp,
) -> Result<Option<String>> {
    // Atomic: one `DELETE .. RETURNING`. Between a read and a delete, a second request could read the same row.
    let mut taken =
        challenges::Entity::delete_many().filter(waiting(token_hash, purpose, now)).exec_with_returning(tx).await?;
    Ok(taken.pop().map(|row| row.state))
}

fn waiting(token_hash: &[u8], purpose: ChallengePurpose, now: Timestamp) -> Condition {
    Condition::all()
        .add(challenges::Column::TokenHash.eq(token_hash))
        .add(challenges::Column::Purpose.eq(purpose.as_str()))
        .add(challenges::Column::ExpiresAtMs.gt(now.0))
}

/// Makes this the only set-up link, and abandons sign-ups that were begun with the previous one.
pub(in crate::accounts) async fn replace_setup_link(tx: &Tx, token_hash: Vec<u8>, expires_at: Timestamp) -> Result<()> {
    setup_links::Entity::delete_many().exec(tx).await?;
    signups::Entity::delete_many().filter(signups::Column::Role.eq(role_as_str(Role::Admin))).exec(tx).await?;
    let row = setup_links::ActiveModel { token_hash: Set(token_hash), expires_at_ms: Set(expires_at.0) };
    setup_links::Entity::insert(row).exec_without_returning(tx).await?;
    Ok(())
}

pub(in crate::accounts) async fn has_setup_link<C: ConnectionTrait>(
    on: &C,
    token_hash: &[u8],
    now: Timestamp,
) -> Result<bool> {
    let found = setup_links::Entity::find_by_id(token_hash.to_vec())
        .filter(setup_links::Column::ExpiresAtMs.gt(now.0))
        .one(on)
        .await?;
    Ok(found.is_some())
}

/// Deletes the only set-up link. `false` when there is none.
pub(in crate::accounts) async fn take_setup_link(tx: &Tx) -> Result<bool> {
    // The expiry is not checked again: a sign-up that began in time may use its own 30 minutes.
    Ok(setup_links::Entity::delete_many().exec(tx).await?.rows_affected == 1)
}

/// Deletes expired sign-ups and challenges, and set-up links that expired before `links_until`. Returns their number.
pub(in crate::accounts) async fn purge_expired_pending(tx: &Tx, now: Timestamp, links_until: Timestamp) -> Result<u64> {
    let signups_over = Query::select()
        .column(signups::Column::Id)
        .from(signups::Entity)
        .and_where(signups::Column::ExpiresAtMs.lte(now.0))
        .limit(PURGE_BATCH)
        .to_owned();
    let challenges_over = Query::select()
        .column(challenges::Column::TokenHash)
        .from(challenges::Entity)
        .and_where(challenges::Column::ExpiresAtMs.lte(now.0))
        .limit(PURGE_BATCH)
        .to_owned();
    let signups = signups::Entity::delete_many().filter(signups::Column::Id.in_subquery(signups_over)).exec(tx).await?;
    let challenges = challenges::Entity::delete_many()
        .filter(challenges::Column::TokenHash.in_subquery(challenges_over))
        .exec(tx)
        .await?;
    let links =
        setup_links::Entity::delete_many().filter(setup_links::Column::ExpiresAtMs.lte(links_until.0)).exec(tx).await?;
    Ok(signups.rows_affected + challenges.rows_affected + links.rows_affected)
}
