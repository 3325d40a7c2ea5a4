//! A fixture that inserts many accounts at once: the rows that a sign-up writes, on SQLite.

use berth::db::{Db, InstanceId};
use berth_containers::{ContainerSpec, Slot};
use berth_ground::clock::{Clock, Timestamp};
use berth_ground::secrets::{Token, hash};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement, Value};

/// Writes `count` accounts with one instance each that has been asleep for a day, and returns the container specs that
/// match the rows. Instances numbered `containers` and above have no container yet.
pub async fn crowd(
    db: &Db,
    clock: &Clock,
    image: &str,
    count: u32,
    containers: u32,
) -> anyhow::Result<Vec<ContainerSpec>> {
    let tx = db.begin().await?;
    let mut specs = Vec::new();
    let (now, then) = (clock.now(), Timestamp(clock.now().0 - 24 * 60 * 60 * 1000));
    for number in 0..count {
        let (account, instance) = (clock.uuid(), InstanceId(clock.uuid()));
        let (handle, token) = (format!("crowd{number}"), Token::new(clock));
        let is_there = number < containers;
        let run = async |sql: &str, values: Vec<Value>| {
            tx.execute_raw(Statement::from_sql_and_values(DbBackend::Sqlite, sql, values)).await
        };
        run(
            "INSERT INTO accounts (id, handle, skeleton, role, state, totp_secret, totp_last_step, totp_failures, \
             totp_blocked_until_ms, created_at_ms) VALUES (?, ?, ?, 'member', 'active', ?, 0, 0, 0, ?)",
            // No one-time-code secret: one that does not decrypt would be a reason not to start.
            vec![account.into(), handle.clone().into(), handle.clone().into(), Vec::<u8>::new().into(), now.0.into()],
        )
        .await?;
        run(
            "INSERT INTO instances (id, account_id, handle, slot, image, wish, wish_cause, wish_at_ms, fact, fact_cause, \
             fact_at_ms, active_at_ms, token_hash, created_at_ms) \
             VALUES (?, ?, ?, ?, ?, 'available', 'sign_up', ?, ?, 'idle', ?, ?, ?, ?)",
            vec![
                instance.0.into(),
                account.into(),
                handle.clone().into(),
                i64::from(number).into(),
                image.into(),
                then.0.into(),
                (if is_there { "stopped" } else { "absent" }).into(),
                then.0.into(),
                then.0.into(),
                is_there.then(|| hash(token.reveal()).to_vec()).into(),
                then.0.into(),
            ],
        )
        .await?;
        if is_there {
            specs.push(ContainerSpec {
                instance,
                slot: Slot(number),
                image: image.to_owned(),
                image_id: None,
                size: "standard".into(),
                url: format!("https://{handle}.example.com"),
                handle,
                token: token.reveal().to_owned(),
            });
        }
    }
    tx.commit().await?;
    Ok(specs)
}
