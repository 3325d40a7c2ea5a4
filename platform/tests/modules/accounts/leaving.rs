//! Leaving: what it asks for, how it is undone, and what is left of somebody who is gone.

use std::time::Duration;

use berth::accounts::Standing;
use berth::containers::ContainerHost as _;
use berth::instances::{Cause, Wish};

use super::*;

const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Leaves; the fake host's container never ran, so its files are marked at the first run.
async fn leave(house: &TestModules, member: &Member) {
    let session = session(house, &member.signed_in.session).await.unwrap();
    let due = house.accounts.leave(&session, member.signed_in.handle.as_str()).await.unwrap();
    assert_eq!(due, house.clock.now().plus(WEEK));
    house.accounts.see_off(&house.modules).await.unwrap();
}

/// Logs in anew on the browser that signed up.
async fn log_in_again(house: &TestModules, member: &Member) -> Session {
    let token = match log_in(house, &member.browser, Some(&member.signed_in.device)).await.unwrap() {
        LogIn::SignedIn(signed_in) => signed_in.session,
        LogIn::CodeNeeded(token) => {
            house.next_code();
            let code = member.app.code(&house.clock);
            house.accounts.log_in_code(token.reveal(), &code, &somebody()).await.unwrap().session
        }
    };
    session(house, &token).await.unwrap()
}

async fn rows(house: &TestModules, table: &str) -> i64 {
    let db = house.db.read();
    let text = format!("SELECT count(*) AS n FROM {table}");
    let row = db.query_one_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap().unwrap();
    row.try_get("", "n").unwrap()
}

#[tokio::test]
async fn who_leaves_is_logged_out_and_can_only_come_back_to_stay() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        leave(&house, &member).await;
        assert!(session(&house, &member.signed_in.session).await.is_none(), "{}", house.kind());
        let handle = &member.signed_in.handle;
        assert_eq!(house.accounts.account(handle).await.unwrap().standing, Standing::Leaving);

        let back = log_in_again(&house, &member).await;
        assert!(back.leaving);
        let handed = house.accounts.hand_off(&back, "alice.example.com", "state", &"c".repeat(43)).await;
        assert!(matches!(handed, Err(Error::Forbidden(_))));
        let instance = house.instances.by_handle(handle).unwrap();
        for cause in [Cause::Visit, Cause::OwnerAsked, Cause::OperatorAsked] {
            assert!(matches!(house.instances.wake(&instance, cause).await, Err(Error::Forbidden(_))), "{cause:?}");
        }

        assert!(house.accounts.leaving(&back).await.unwrap().unwrap().may_stay);
        for _ in 0..2 {
            house.accounts.stay(&back).await.unwrap();
        }
        assert!(house.accounts.leaving(&back).await.unwrap().is_none());
        assert_eq!(house.accounts.account(handle).await.unwrap().standing, Standing::Active);
        assert_eq!(house.host.host_report().await.unwrap().buried, 0);
        house.instances.wake(&instance, Cause::Visit).await.unwrap();
        house.clock.advance(WEEK * 2);
        assert_eq!(house.accounts.see_off(&house.modules).await.unwrap(), 0);
        assert_eq!(house.accounts.account(handle).await.unwrap().standing, Standing::Active);
        assert_eq!(audit(&house).await[1..], ["alice leave alice", "alice log_in alice", "alice keep alice"]);
    }
}

#[tokio::test]
async fn leaving_takes_the_handle_by_hand_and_a_fresh_passkey() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let first = session(&house, &member.signed_in.session).await.unwrap();
        for typed in ["", "bob", "alice."] {
            let refused = house.accounts.leave(&first, typed).await;
            assert!(matches!(refused, Err(Error::Invalid { field: "handle", .. })), "{typed}");
        }
        house.clock.advance(Duration::from_secs(601));
        assert!(sentence(house.accounts.leave(&first, "alice").await).contains("ten minutes"));

        house.next_code();
        let code = member.app.code(&house.clock);
        let recovered = house.accounts.recover("alice", &member.recovery_codes[0], &code, &somebody()).await.unwrap();
        let recovered = session(&house, &recovered.session).await.unwrap();
        assert!(sentence(house.accounts.leave(&recovered, "alice").await).contains("passkey"));

        let fresh = log_in_again(&house, &member).await;
        house.accounts.leave(&fresh, " Alice ").await.unwrap();
    }
}

#[tokio::test]
async fn what_the_operator_deletes_only_the_operator_keeps_and_as_it_was() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "mallory").await;
        let handle = &member.signed_in.handle;
        house.accounts.suspend(handle, "operator").await.unwrap();
        house.accounts.delete(handle, "operator").await.unwrap();
        assert!(matches!(house.accounts.delete(handle, "operator").await, Err(Error::Conflict(_))));
        for refused in
            [house.accounts.restore(handle, "operator").await, house.accounts.suspend(handle, "operator").await]
        {
            assert!(sentence(refused).contains("user keep"));
        }
        let back = log_in_again(&house, &member).await;
        assert!(!house.accounts.leaving(&back).await.unwrap().unwrap().may_stay);
        assert!(matches!(house.accounts.stay(&back).await, Err(Error::Forbidden(_))));
        house.accounts.keep(handle, "operator").await.unwrap();
        assert_eq!(house.accounts.account(handle).await.unwrap().standing, Standing::Suspended, "{}", house.kind());
        assert_eq!(house.instances.by_handle(handle).unwrap().status().wish, Wish::Suspended);
        assert!(session(&house, &member.signed_in.session).await.is_none());
    }
}

#[tokio::test]
async fn of_somebody_who_is_gone_only_the_handle_and_the_receipts_are_left() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let other = sign_up(&house, "bob-box").await;
        let handle = member.signed_in.handle.clone();
        let id = house.instances.by_handle(&handle).unwrap().id;
        house.host.ensure_volume(id, "standard").await.unwrap();
        house.host.write(id, b"letters");
        let backend = house.db.read().get_database_backend();
        let receipt = "INSERT INTO receipts (id, account_id, instance_id, period, provider, model, price_version, \
                       held_nanodollars, amount_nanodollars, input_tokens, cache_write_tokens, \
                       cache_write_long_tokens, cache_read_tokens, output_tokens, basis, outcome, usage, held_at_ms, \
                       settled_at_ms) SELECT id, account_id, id, '2026-11', 'anthropic', 'm', '1', 5, 5, 1, 0, 0, 0, 1, \
                       'provider', 'completed', '{}', 1, 2 FROM instances WHERE handle = 'alice'";
        let tx = house.db.begin().await.unwrap();
        tx.execute_raw(Statement::from_string(backend, receipt)).await.unwrap();
        tx.commit().await.unwrap();

        let account = house.instances.by_handle(&handle).unwrap().account;
        for (account, handle) in [
            (account, &handle),
            (house.instances.by_handle(&other.signed_in.handle).unwrap().account, &other.signed_in.handle),
        ] {
            house.own_keys.set((account, handle), "openai", "sk-a-key-at-a-provider").await.unwrap();
        }

        leave(&house, &member).await;
        house.clock.advance(WEEK - Duration::from_secs(1));
        assert_eq!(house.accounts.see_off(&house.modules).await.unwrap(), 0);
        assert_eq!(house.host.read(id).as_deref(), Some(&b"letters"[..]), "{}", house.kind());
        house.clock.advance(Duration::from_secs(1));
        assert_eq!(house.accounts.see_off(&house.modules).await.unwrap(), 1);
        assert_eq!(house.accounts.see_off(&house.modules).await.unwrap(), 0);

        assert_eq!(house.host.read(id), None);
        assert!(house.instances.by_handle(&handle).is_none());
        // What is left is the other's.
        for (table, left) in [
            ("instances", 1),
            ("passkeys", 1),
            ("sessions", 1),
            ("devices", 1),
            ("recovery_codes", 10),
            ("own_keys", 1),
            ("departures", 0),
            ("receipts", 1),
            ("accounts", 2),
        ] {
            assert_eq!(rows(&house, table).await, left, "{}: {table}", house.kind());
        }
        assert!(house.own_keys.pass(account, "openai").is_none());
        assert_eq!(rows(&house, "audit WHERE actor = 'alice' AND detail <> ''").await, 0);
        assert!(log_in(&house, &member.browser, None).await.is_err());
        for refused in
            [house.accounts.keep(&handle, "operator").await, house.accounts.suspend(&handle, "operator").await]
        {
            assert!(sentence(refused).contains("gone"));
        }
        // The handle is nobody's for ever, also one that looks like it.
        for taken in ["alice", "a1ice"] {
            assert!(house.accounts.sign_up_begin(taken, None, None, &somebody()).await.is_err(), "{taken}");
        }
        let back = log_in_again(&house, &other).await;
        assert!(!back.leaving, "the other is as before");
    }
}

#[tokio::test]
async fn when_the_only_admin_is_gone_a_set_up_link_makes_another() {
    let house = TestModules::on(sqlite().await).await;
    let operator = sign_up_operator(&house).await;
    leave(&house, &operator).await;
    assert!(house.accounts.setup_link().await.is_err(), "the admin can still stay");
    house.clock.advance(WEEK);
    assert_eq!(house.accounts.see_off(&house.modules).await.unwrap(), 1);
    house.accounts.setup_link().await.unwrap();
}
