//! The operator: the first admin account, and suspensions.

use std::time::Duration;

use berth::accounts::{AccountState, Role};

use super::*;

const CLOSED: &[(&str, &str)] = &[("BERTH_SIGNUPS", "closed")];

#[tokio::test]
async fn the_set_up_link_makes_the_first_account_an_admin_also_when_sign_ups_are_closed() {
    for database in databases().await {
        let house = TestModules::with(database, CLOSED).await;
        let closed = house.accounts.sign_up_begin("alice", None, None, &somebody()).await;
        assert!(matches!(closed, Err(Error::Forbidden(_))));
        let operator = sign_up_operator(&house).await;
        let session = session(&house, &operator.signed_in.session).await.unwrap();
        assert_eq!(session.role, Role::Admin, "{}", house.kind());
        // With an admin there are no further set-up links.
        assert!(matches!(house.accounts.setup_link().await, Err(Error::Conflict(_))));
    }
}

#[tokio::test]
async fn a_member_who_signs_up_first_does_not_lock_the_operator_out() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let link = house.accounts.setup_link().await.unwrap();
        sign_up(&house, "alice").await;
        let begun = house.accounts.sign_up_begin("olivia", None, Some(link.reveal()), &somebody()).await.unwrap();
        prepare_sign_up(&house, begun.reveal()).await;
        house.accounts.sign_up_finish(begun.reveal(), &somebody()).await.unwrap();
        let roles: Vec<_> = house.accounts.accounts().await.unwrap().into_iter().map(|a| a.role).collect();
        assert_eq!(roles, [Role::Member, Role::Admin], "{}", house.kind());
        let late = house.accounts.sign_up_begin("oscar", None, Some(link.reveal()), &somebody()).await;
        assert!(matches!(late, Err(Error::Forbidden(_))), "a link works once");
    }
}

#[tokio::test]
async fn one_set_up_link_makes_one_admin_and_only_the_newest_works() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let old = house.accounts.setup_link().await.unwrap();
        let begun = house.accounts.sign_up_begin("old-one", None, Some(old.reveal()), &somebody()).await.unwrap();
        let link = house.accounts.setup_link().await.unwrap();
        assert!(house.accounts.sign_up(begun.reveal()).await.is_err(), "begun with a link that was replaced");
        for refused in [old.reveal(), "nonsense"] {
            assert!(house.accounts.sign_up_begin("olivia", None, Some(refused), &somebody()).await.is_err());
        }
        let mut begun = Vec::new();
        for handle in ["olivia", "oscar", "ottilie"] {
            let token = house.accounts.sign_up_begin(handle, None, Some(link.reveal()), &somebody()).await.unwrap();
            prepare_sign_up(&house, token.reveal()).await;
            begun.push((token, somebody()));
        }
        let all = join_all(begun.iter().map(|(t, c)| house.accounts.sign_up_finish(t.reveal(), c))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", house.kind());
        assert_eq!(house.accounts.accounts().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_set_up_link_can_be_opened_for_an_hour() {
    let house = TestModules::on(sqlite().await).await;
    let link = house.accounts.setup_link().await.unwrap();
    house.clock.advance(Duration::from_secs(3599));
    let begun = house.accounts.sign_up_begin("olivia", None, Some(link.reveal()), &somebody()).await.unwrap();
    house.clock.advance(Duration::from_secs(1));
    let late = house.accounts.sign_up_begin("oscar", None, Some(link.reveal()), &somebody()).await;
    assert!(matches!(late, Err(Error::Forbidden(_))));
    // A sign-up that began in time may change its handle and finish.
    house.accounts.purge_expired().await.unwrap();
    let changed = house.accounts.sign_up_begin("orla", Some(begun.reveal()), None, &somebody()).await.unwrap();
    let operator = finish_sign_up(&house, changed.reveal()).await;
    assert_eq!(session(&house, &operator.signed_in.session).await.unwrap().role, Role::Admin);
}

#[tokio::test]
async fn suspending_ends_every_login_at_once_and_restoring_allows_new_ones() {
    for database in databases().await {
        let house = TestModules::on(database).await;
        let member = sign_up(&house, "alice").await;
        let handle = &member.signed_in.handle;
        let pending = pending_log_in(&house, &member).await;
        assert!(session(&house, &member.signed_in.session).await.is_some());
        house.accounts.suspend(handle, "olivia").await.unwrap();
        house.accounts.suspend(handle, "olivia").await.unwrap();
        assert!(session(&house, &member.signed_in.session).await.is_none(), "{}", house.kind());
        assert_eq!(house.accounts.account(handle).await.unwrap().state, AccountState::Suspended);
        house.next_code();
        let code = member.app.code(&house.clock);
        assert!(house.accounts.log_in_code(pending.reveal(), &code, &somebody()).await.is_err());

        house.accounts.restore(handle, "olivia").await.unwrap();
        house.accounts.log_in_code(pending.reveal(), &code, &somebody()).await.unwrap();
        let lines = audit(&house).await;
        assert_eq!(lines[1..3], ["olivia suspend alice", "olivia restore alice"]);
        let nobody = berth::handle::Handle::parse("nobody").unwrap();
        assert!(matches!(house.accounts.suspend(&nobody, "olivia").await, Err(Error::NotFound)));
    }
}
