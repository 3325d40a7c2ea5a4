//! Account deletion on a fake host: it completes through every failure and kill, and no other account loses its files.

use std::time::Duration;

use berth::instances::{Cause, Fact, Wish};
use berth_containers::fake::{HoldPoint, Verb};
use berth_containers::{ContainerExit, ContainerHost as _, ContainerState, HostError};
use berth_ground::handle::Handle;
use proptest::prelude::*;
use sea_orm::{ConnectionTrait as _, Statement};

use berth_testing::databases;
use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::person::Person;

const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Schedules a deletion as the operator, and lets the reconciler stop the instance.
async fn delete(platform: &FakePlatform, person: &Person) {
    let handle = Handle::parse(&person.handle).unwrap();
    platform.app.accounts.schedule_deletion_of(&handle, "operator").await.unwrap();
    platform.look().await;
}

async fn advance_deletions(platform: &FakePlatform) -> u64 {
    platform.app.accounts.advance_deletions(&platform.app.modules).await.unwrap()
}

#[tokio::test]
async fn a_scheduled_deletion_keeps_the_instance_stopped_until_everything_is_destroyed() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let alice = platform.settle_in("alice").await;
        let cookie = platform.instance_cookie(&alice).await;
        let (id, token) = (alice.instance.id, platform.host.spec(alice.instance.id).unwrap().token);
        platform.host.write(id, b"letters");
        delete(&platform, &alice).await;
        assert_eq!((alice.instance.fact(), alice.instance.status().wish), (Fact::Stopped, Wish::Leaving));
        let visit = platform.get("alice.example.com", "/", &[("cookie", &cookie)]).await;
        assert_eq!((visit.status, visit.json()["code"].as_str()), (403, Some("leaving")));
        let login = cookie.strip_prefix("__Host-berth=").unwrap();
        let is_live = platform.app.accounts.is_live("alice.example.com", login).await.unwrap();
        assert!(!is_live, "the session on the instance's host ended with the others");
        assert_eq!(advance_deletions(&platform).await, 0);
        platform.wait(WEEK - Duration::from_secs(1)).await;
        assert_eq!(advance_deletions(&platform).await, 0);
        assert_eq!(platform.host.inspect(id).await.unwrap().container.unwrap().state, ContainerState::Stopped);
        assert_eq!(platform.host.read(id).as_deref(), Some(&b"letters"[..]));

        platform.wait(Duration::from_secs(1)).await;
        assert_eq!(advance_deletions(&platform).await, 1);
        platform.look().await;
        let seen = platform.host.inspect(id).await.unwrap();
        assert!(!seen.volume && seen.container.is_none(), "{seen:?}");
        assert!(platform.instances().by_token_hash(&berth_ground::secrets::hash(&token)).is_none());
        assert_eq!(platform.get("alice.example.com", "/", &[]).await.status, 404);
    }
}

#[tokio::test]
async fn an_instance_in_the_middle_of_work_is_stopped_before_its_files_are_marked() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    platform.host.hold(Verb::Stop, HoldPoint::BeforeEffect);
    let handle = Handle::parse("alice").unwrap();
    platform.app.accounts.schedule_deletion_of(&handle, "operator").await.unwrap();
    platform.host.until_held(Verb::Stop).await;
    advance_deletions(&platform).await;
    assert_eq!(platform.host.host_report().await.unwrap().buried, 0);
    platform.host.release(Verb::Stop);
    until(&alice.instance, |status| status.fact == Fact::Stopped).await;
    advance_deletions(&platform).await;
    assert_eq!(platform.host.host_report().await.unwrap().buried, 1);
}

/// Fault injection for every step of a deletion: the host's verb fails, the process is killed before the verb's effect,
/// and it is killed after it. The next runs complete the deletion.
#[tokio::test]
async fn a_deletion_interrupted_at_any_step_is_completed_by_the_next_run() {
    for database in databases().await {
        let mut platform = FakePlatform::on(database, &[]).await;
        let people = ["ann", "ben", "cid", "dora", "emil", "fay", "gus", "hal"];
        let verbs = [Verb::Inspect, Verb::BuryVolume, Verb::RemoveContainer, Verb::DestroyVolume];
        for (n, handle) in people.into_iter().enumerate() {
            let person = platform.settle_in(handle).await;
            let id = person.instance.id;
            delete(&platform, &person).await;
            let verb = verbs[n % verbs.len()];
            // For the first half of the accounts the verb fails; for the second half the process is killed.
            if n < verbs.len() {
                for error in [HostError::Timeout, HostError::Unreachable] {
                    platform.host.fail_next(verb, error);
                    advance_deletions(&platform).await;
                    advance_deletions(&platform).await;
                    platform.wait(WEEK).await;
                }
                advance_deletions(&platform).await;
            } else {
                for held in [HoldPoint::BeforeEffect, HoldPoint::AfterEffect] {
                    platform.host.hold(verb, held);
                    let app = platform.app.clone();
                    let running = tokio::spawn(async move { app.accounts.advance_deletions(&app.modules).await });
                    let _ = tokio::time::timeout(Duration::from_millis(300), platform.host.until_held(verb)).await;
                    running.abort();
                    platform.host.release(verb);
                    platform.restart().await;
                    advance_deletions(&platform).await;
                    platform.wait(WEEK).await;
                }
                advance_deletions(&platform).await;
            }
            let seen = platform.host.inspect(id).await.unwrap();
            assert!(!seen.volume && seen.container.is_none(), "{verb:?}: {seen:?}");
            assert!(platform.instances().by_handle(&Handle::parse(handle).unwrap()).is_none(), "{verb:?}");
            assert_eq!(platform.host.host_report().await.unwrap().buried, 0, "{verb:?}");
        }
    }
}

#[tokio::test]
async fn the_reconciler_never_destroys_a_volume() {
    let mut platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    let id = alice.instance.id;
    platform.host.write(id, b"letters");
    delete(&platform, &alice).await;
    // For months, everything runs except the scheduled job.
    for _ in 0..10 {
        platform.wait(WEEK).await;
        platform.restart().await;
    }
    assert_eq!(platform.host.read(id).as_deref(), Some(&b"letters"[..]));
    assert_eq!(platform.host.calls(Verb::DestroyVolume), 0);
}

#[tokio::test]
async fn the_grace_period_on_the_host_starts_when_the_files_are_marked() {
    let platform = FakePlatform::new(&[]).await;
    let alice = platform.settle_in("alice").await;
    delete(&platform, &alice).await;
    platform.host.cut_off();
    platform.wait(WEEK * 2).await;
    assert_eq!(advance_deletions(&platform).await, 0);
    platform.host.reconnect();
    advance_deletions(&platform).await;
    platform.wait(WEEK - Duration::from_secs(1)).await;
    assert_eq!(advance_deletions(&platform).await, 0);
    let handle = Handle::parse("alice").unwrap();
    platform.app.accounts.cancel_deletion_of(&handle, "operator").await.unwrap();
    assert_eq!(platform.host.host_report().await.unwrap().buried, 0, "until then the deletion can be cancelled");
}

#[tokio::test]
async fn a_slot_is_reused_after_a_day_and_the_lowest_first() {
    for database in databases().await {
        let platform = FakePlatform::on(database, &[]).await;
        let ann = platform.settle_in("ann").await;
        let ben = platform.settle_in("ben").await;
        let (first, second) = (ann.instance.address(), ben.instance.address());
        for person in [&ann, &ben] {
            delete(&platform, person).await;
        }
        advance_deletions(&platform).await;
        platform.wait(WEEK).await;
        assert_eq!(advance_deletions(&platform).await, 2);
        let cid = platform.settle_in("cid").await;
        assert!(cid.instance.address() > second, "a slot must not be reused at once");
        platform.wait(DAY).await;
        let dora = platform.settle_in("dora").await;
        assert_eq!(dora.instance.address(), first);
        assert_eq!(platform.settle_in("emil").await.instance.address(), second);
    }
}

/// A new table with a foreign key to an instance or an account would make every deletion fail, unless its rows are
/// deleted too.
#[tokio::test]
async fn the_deletion_handles_every_table_that_references_an_account_or_an_instance() {
    // Tables that the deletion empties explicitly, and those of the ledger, which stay.
    let known = [
        "instances",
        "passkeys",
        "recovery_codes",
        "sessions",
        "devices",
        "departures",
        "transitions",
        "declared_jobs",
        "webhook_paths",
        "webhook_deliveries",
        "alarms",
        "shares",
        "domains",
        "allowances",
        "receipts",
        "spend_days",
        "quota_limits",
        "credits",
        "own_keys",
    ];
    let database = berth_testing::sqlite().await;
    let db = database.db.read();
    let text = "SELECT name, sql FROM sqlite_master WHERE type = 'table' AND sql LIKE '%REFERENCES %'";
    let rows = db.query_all_raw(Statement::from_string(db.get_database_backend(), text)).await.unwrap();
    assert!(rows.len() >= known.len());
    for row in rows {
        let (name, sql): (String, String) = (row.try_get("", "name").unwrap(), row.try_get("", "sql").unwrap());
        let names = |table: &str| sql.contains(&format!("REFERENCES {table}(id)"));
        let cascades = |table: &str| sql.contains(&format!("REFERENCES {table}(id) ON DELETE CASCADE"));
        let stays = ["instances", "accounts"].into_iter().any(|table| names(table) && !cascades(table));
        assert!(
            !stays || known.contains(&name.as_str()),
            "{name} references rows that a deletion removes: add ON DELETE CASCADE, or delete its rows there"
        );
    }
}

/// An event of a random sequence.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// `docker container prune` by the operator: containers that do not run are removed.
    Prune,
    Stop(usize),
    Crash(usize),
    Visit(usize),
    /// The platform's process is killed and started again.
    Kill,
    ScheduleDeletion(usize),
    CancelDeletion(usize),
    AdvanceDeletions,
    Days(u8),
    /// The engine does not answer while the scheduled job runs.
    Outage,
}

fn events() -> impl Strategy<Value = Event> {
    let who = 0..PEOPLE.len();
    prop_oneof![
        Just(Event::Prune),
        who.clone().prop_map(Event::Stop),
        who.clone().prop_map(Event::Crash),
        who.clone().prop_map(Event::Visit),
        Just(Event::Kill),
        who.clone().prop_map(Event::ScheduleDeletion),
        who.prop_map(Event::CancelDeletion),
        Just(Event::AdvanceDeletions),
        (1..9_u8).prop_map(Event::Days),
        Just(Event::Outage),
    ]
}

const PEOPLE: [&str; 3] = ["ann", "ben", "cid"];

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, max_shrink_iters: 40, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_events_destroys_files_without_a_due_deletion(sequence in proptest::collection::vec(events(), 10..40)) {
        tokio::runtime::Runtime::new().unwrap().block_on(run_sequence(&sequence));
    }
}

async fn run_sequence(sequence: &[Event]) {
    let mut platform = FakePlatform::new(&[]).await;
    let mut ids = Vec::new();
    for handle in PEOPLE {
        let person = platform.settle_in(handle).await;
        platform.host.write(person.instance.id, handle.as_bytes());
        ids.push(person.instance.id);
    }
    // When each account's deletion was scheduled.
    let mut scheduled = [None; PEOPLE.len()];
    for event in sequence {
        apply(&mut platform, *event, &mut scheduled).await;
        for (n, handle) in PEOPLE.into_iter().enumerate() {
            let due = scheduled[n].is_some_and(|since| platform.clock.now().since(since) >= WEEK);
            let files = platform.host.read(ids[n]);
            assert!(
                due || files.as_deref() == Some(handle.as_bytes()),
                "{handle} lost {files:?} by {event:?} of {sequence:?}"
            );
        }
    }
    // Scheduled deletions complete in the end.
    platform.host.reconnect();
    for _ in 0..3 {
        advance_deletions(&platform).await;
        platform.wait(WEEK).await;
    }
    for (n, handle) in PEOPLE.into_iter().enumerate() {
        assert_eq!(platform.host.read(ids[n]).is_none(), scheduled[n].is_some(), "{handle} after {sequence:?}");
    }
}

async fn apply(platform: &mut FakePlatform, event: Event, scheduled: &mut [Option<berth_ground::clock::Timestamp>]) {
    let handle = |n: usize| Handle::parse(PEOPLE[n]).unwrap();
    match event {
        Event::Prune => {
            for seen in platform.host.list().await.unwrap() {
                if seen.container.is_some_and(|container| container.state == ContainerState::Stopped) {
                    platform.host.remove_container(seen.instance).await.unwrap();
                }
            }
            platform.look().await;
        }
        Event::Stop(n) => {
            if let Some(instance) = platform.instances().by_handle(&handle(n)) {
                let _ = platform.instances().sleep(&instance, Wish::Stopped, Cause::OwnerAsked).await;
            }
        }
        Event::Crash(n) => {
            if let Some(instance) = platform.instances().by_handle(&handle(n)) {
                platform.host.crash(instance.id, ContainerExit { code: 1, out_of_memory: false });
            }
        }
        Event::Visit(n) => {
            if let Some(instance) = platform.instances().by_handle(&handle(n)) {
                let _ = platform.instances().wake(&instance, Cause::Visit).await;
            }
        }
        Event::Kill => platform.restart().await,
        Event::ScheduleDeletion(n) => {
            if platform.app.accounts.schedule_deletion_of(&handle(n), "operator").await.is_ok() {
                scheduled[n] = Some(platform.clock.now());
            }
        }
        Event::CancelDeletion(n) => {
            if platform.app.accounts.cancel_deletion_of(&handle(n), "operator").await.is_ok() {
                scheduled[n] = None;
            }
        }
        Event::AdvanceDeletions => drop(advance_deletions(platform).await),
        Event::Days(days) => platform.wait(DAY * u32::from(days)).await,
        Event::Outage => {
            platform.host.cut_off();
            advance_deletions(platform).await;
            platform.host.reconnect();
        }
    }
    platform.instances().settled().await;
}
