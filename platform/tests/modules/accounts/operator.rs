//! The operator: the first admin account, and suspensions.

use std::time::Duration;

use berth::accounts::{AccountState, Role};

use super::*;

const CLOSED: &[(&str, &str)] = &[("BERTH_SIGNUPS", "closed")];

#[tokio::test]
async fn the_set_up_link_makes_the_first_account_an_admin_also_when_sign_ups_are_closed() {
    for database in databases().await {
        let platform = TestModules::with(database, CLOSED).await;
        let closed = platform.accounts.sign_up_begin("alice", None, None, &somebody()).await;
        assert!(matches!(closed, Err(Error::Forbidden(_))));
        let operator = sign_up_operator(&platform).await;
        let session = session(&platform, &operator.signed_in.session).await.unwrap();
        assert_eq!(session.role, Role::Admin, "{}", platform.kind());
        // With an admin there are no further set-up links.
        assert!(matches!(platform.accounts.setup_link().await, Err(Error::Conflict(_))));
    }
}

#[tokio::test]
async fn a_member_who_signs_up_first_does_not_lock_the_operator_out() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let link = platform.accounts.setup_link().await.unwrap();
        sign_up(&platform, "alice").await;
        let begun = platform.accounts.sign_up_begin("olivia", None, Some(link.reveal()), &somebody()).await.unwrap();
        prepare_sign_up(&platform, begun.reveal()).await;
        platform.accounts.sign_up_finish(begun.reveal(), &somebody()).await.unwrap();
        let roles: Vec<_> = platform.accounts.accounts().await.unwrap().into_iter().map(|a| a.role).collect();
        assert_eq!(roles, [Role::Member, Role::Admin], "{}", platform.kind());
        let late = platform.accounts.sign_up_begin("oscar", None, Some(link.reveal()), &somebody()).await;
        assert!(matches!(late, Err(Error::Forbidden(_))), "a link works once");
    }
}

#[tokio::test]
async fn one_set_up_link_makes_one_admin_and_only_the_newest_works() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let old = platform.accounts.setup_link().await.unwrap();
        let begun = platform.accounts.sign_up_begin("old-one", None, Some(old.reveal()), &somebody()).await.unwrap();
        let link = platform.accounts.setup_link().await.unwrap();
        assert!(platform.accounts.sign_up(begun.reveal()).await.is_err(), "begun with a link that was replaced");
        for refused in [old.reveal(), "nonsense"] {
            assert!(platform.accounts.sign_up_begin("olivia", None, Some(refused), &somebody()).await.is_err());
        }
        let mut begun = Vec::new();
        for handle in ["olivia", "oscar", "ottilie"] {
            let token = platform.accounts.sign_up_begin(handle, None, Some(link.reveal()), &somebody()).await.unwrap();
            prepare_sign_up(&platform, token.reveal()).await;
            begun.push((token, somebody()));
        }
        let all = join_all(begun.iter().map(|(t, c)| platform.accounts.sign_up_finish(t.reveal(), c))).await;
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 1, "{}", platform.kind());
        assert_eq!(platform.accounts.accounts().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_set_up_link_can_be_opened_for_an_hour() {
    let platform = TestModules::on(sqlite().await).await;
    let link = platform.accounts.setup_link().await.unwrap();
    platform.clock.advance(Duration::from_secs(3599));
    let begun = platform.accounts.sign_up_begin("olivia", None, Some(link.reveal()), &somebody()).await.unwrap();
    platform.clock.advance(Duration::from_secs(1));
    let late = platform.accounts.sign_up_begin("oscar", None, Some(link.reveal()), &somebody()).await;
    assert!(matches!(late, Err(Error::Forbidden(_))));
    // A sign-up that began in time may change its handle and finish.
    platform.accounts.purge_expired().await.unwrap();
    let changed = platform.accounts.sign_up_begin("orla", Some(begun.reveal()), None, &somebody()).await.unwrap();
    let operator = finish_sign_up(&platform, changed.reveal()).await;
    assert_eq!(session(&platform, &operator.signed_in.session).await.unwrap().role, Role::Admin);
}

#[tokio::test]
async fn suspending_ends_every_login_at_once_and_restoring_allows_new_ones() {
    for database in databases().await {
        let platform = TestModules::on(database).await;
        let member = sign_up(&platform, "alice").await;
        let handle = &member.signed_in.handle;
        let pending = pending_log_in(&platform, &member).await;
        assert!(session(&platform, &member.signed_in.session).await.is_some());
        platform.accounts.suspend(handle, "olivia").await.unwrap();
        platform.accounts.suspend(handle, "olivia").await.unwrap();
        assert!(session(&platform, &member.signed_in.session).await.is_none(), "{}", platform.kind());
        assert_eq!(platform.accounts.account(handle).await.unwrap().state, AccountState::Suspended);
        platform.next_code();
        let code = member.app.code(&platform.clock);
        assert!(platform.accounts.log_in_code(pending.reveal(), &code, &somebody()).await.is_err());

        platform.accounts.restore(handle, "olivia").await.unwrap();
        platform.accounts.log_in_code(pending.reveal(), &code, &somebody()).await.unwrap();
        let lines = audit(&platform).await;
        assert_eq!(lines[1..3], ["olivia suspend alice", "olivia restore alice"]);
        let nobody = berth_ground::handle::Handle::parse("nobody").unwrap();
        assert!(matches!(platform.accounts.suspend(&nobody, "olivia").await, Err(Error::NotFound)));
    }
}
