//! Account deletion on a fake host: it completes through every failure and kill, and no other account loses its files.

use std::time::Duration;

use berth::containers::fake::{HoldPoint, Verb};
use berth::containers::{ContainerExit, ContainerHost as _, ContainerState, HostError};
use berth::handle::Handle;
use berth::instances::{Cause, Fact, Wish};
use proptest::prelude::*;
use sea_orm::{ConnectionTrait as _, Statement};

use berth_testing::databases;
use berth_testing::fake_platform::{FakePlatform, Person, until};

const DAY: Duration = Duration::from_secs(24 * 3600);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Schedules a deletion as the operator, and lets the reconciler stop the instance.
async fn delete(town: &FakePlatform, resident: &Person) {
    let handle = Handle::parse(resident.handle).unwrap();
    town.app.accounts.schedule_deletion_of(&handle, "operator").await.unwrap();
    town.look().await;
}

async fn advance_deletions(town: &FakePlatform) -> u64 {
    town.app.accounts.advance_deletions(&town.app.modules).await.unwrap()
}

#[tokio::test]
async fn a_scheduled_deletion_keeps_the_instance_stopped_until_everything_is_destroyed() {
    for database in databases().await {
        let town = FakePlatform::on(database, &[]).await;
        let alice = town.settle_in("alice").await;
        let cookie = town.instance_cookie(&alice).await;
        let (id, token) = (alice.instance.id, town.host.spec(alice.instance.id).unwrap().token);
        town.host.write(id, b"letters");
        delete(&town, &alice).await;
        assert_eq!((alice.instance.fact(), alice.instance.status().wish), (Fact::Stopped, Wish::Leaving));
        let visit = town.get("alice.example.com", "/", &[("cookie", &cookie)]).await;
        assert_eq!((visit.status, visit.json()["code"].as_str()), (403, Some("leaving")));
        let login = cookie.strip_prefix("__Host-berth=").unwrap();
        let is_live = town.app.accounts.is_live("alice.example.com", login).await.unwrap();
        assert!(!is_live, "the session on the instance's host ended with the others");
        assert_eq!(advance_deletions(&town).await, 0);
        town.wait(WEEK - Duration::from_secs(1)).await;
        assert_eq!(advance_deletions(&town).await, 0);
        assert_eq!(town.host.inspect(id).await.unwrap().container.unwrap().state, ContainerState::Stopped);
        assert_eq!(town.host.read(id).as_deref(), Some(&b"letters"[..]));

        town.wait(Duration::from_secs(1)).await;
        assert_eq!(advance_deletions(&town).await, 1);
        town.look().await;
        let seen = town.host.inspect(id).await.unwrap();
        assert!(!seen.volume && seen.container.is_none(), "{seen:?}");
        assert!(town.instances().by_token_hash(&berth::secrets::hash(&token)).is_none());
        assert_eq!(town.get("alice.example.com", "/", &[]).await.status, 404);
    }
}

#[tokio::test]
async fn an_instance_in_the_middle_of_work_is_stopped_before_its_files_are_marked() {
    let town = FakePlatform::new(&[]).await;
    let alice = town.settle_in("alice").await;
    town.host.hold(Verb::Stop, HoldPoint::BeforeEffect);
    let handle = Handle::parse("alice").unwrap();
    town.app.accounts.schedule_deletion_of(&handle, "operator").await.unwrap();
    town.host.until_held(Verb::Stop).await;
    advance_deletions(&town).await;
    assert_eq!(town.host.host_report().await.unwrap().buried, 0);
    town.host.release(Verb::Stop);
    until(&alice.instance, |status| status.fact == Fact::Stopped).await;
    advance_deletions(&town).await;
    assert_eq!(town.host.host_report().await.unwrap().buried, 1);
}

/// Fault injection for every step of a deletion: the host's verb fails, the process is killed before the verb's effect,
/// and it is killed after it. The next runs complete the deletion.
#[tokio::test]
async fn a_deletion_interrupted_at_any_step_is_completed_by_the_next_run() {
    for database in databases().await {
        let mut town = FakePlatform::on(database, &[]).await;
        let residents = ["ann", "ben", "cid", "dora", "emil", "fay", "gus", "hal"];
        let verbs = [Verb::Inspect, Verb::BuryVolume, Verb::RemoveContainer, Verb::DestroyVolume];
        for (n, handle) in residents.into_iter().enumerate() {
            let resident = town.settle_in(handle).await;
            let id = resident.instance.id;
            delete(&town, &resident).await;
            let verb = verbs[n % verbs.len()];
            // For the first half of the residents the verb fails; for the second half the process is killed.
            if n < verbs.len() {
                for error in [HostError::Timeout, HostError::Unreachable] {
                    town.host.fail_next(verb, error);
                    advance_deletions(&town).await;
                    advance_deletions(&town).await;
                    town.wait(WEEK).await;
                }
                advance_deletions(&town).await;
            } else {
                for held in [HoldPoint::BeforeEffect, HoldPoint::AfterEffect] {
                    town.host.hold(verb, held);
                    let app = town.app.clone();
                    let running = tokio::spawn(async move { app.accounts.advance_deletions(&app.modules).await });
                    let _ = tokio::time::timeout(Duration::from_millis(300), town.host.until_held(verb)).await;
                    running.abort();
                    town.host.release(verb);
                    town.restart().await;
                    advance_deletions(&town).await;
                    town.wait(WEEK).await;
                }
                advance_deletions(&town).await;
            }
            let seen = town.host.inspect(id).await.unwrap();
            assert!(!seen.volume && seen.container.is_none(), "{verb:?}: {seen:?}");
            assert!(town.instances().by_handle(&Handle::parse(handle).unwrap()).is_none(), "{verb:?}");
            assert_eq!(town.host.host_report().await.unwrap().buried, 0, "{verb:?}");
        }
    }
}

#[tokio::test]
async fn the_reconciler_never_destroys_a_volume() {
    let mut town = FakePlatform::new(&[]).await;
    let alice = town.settle_in("alice").await;
    let id = alice.instance.id;
    town.host.write(id, b"letters");
    delete(&town, &alice).await;
    // For months, everything runs except the scheduled job.
    for _ in 0..10 {
        town.wait(WEEK).await;
        town.restart().await;
    }
    assert_eq!(town.host.read(id).as_deref(), Some(&b"letters"[..]));
    assert_eq!(town.host.calls(Verb::DestroyVolume), 0);
}

#[tokio::test]
async fn the_grace_period_on_the_host_starts_when_the_files_are_marked() {
    let town = FakePlatform::new(&[]).await;
    let alice = town.settle_in("alice").await;
    delete(&town, &alice).await;
    town.host.cut_off();
    town.wait(WEEK * 2).await;
    assert_eq!(advance_deletions(&town).await, 0);
    town.host.reconnect();
    advance_deletions(&town).await;
    town.wait(WEEK - Duration::from_secs(1)).await;
    assert_eq!(advance_deletions(&town).await, 0);
    let handle = Handle::parse("alice").unwrap();
    town.app.accounts.cancel_deletion_of(&handle, "operator").await.unwrap();
    assert_eq!(town.host.host_report().await.unwrap().buried, 0, "until then the deletion can be cancelled");
}

#[tokio::test]
async fn a_slot_is_reused_after_a_day_and_the_lowest_first() {
    for database in databases().await {
        let town = FakePlatform::on(database, &[]).await;
        let ann = town.settle_in("ann").await;
        let ben = town.settle_in("ben").await;
        let (first, second) = (ann.instance.address(), ben.instance.address());
        for resident in [&ann, &ben] {
            delete(&town, resident).await;
        }
        advance_deletions(&town).await;
        town.wait(WEEK).await;
        assert_eq!(advance_deletions(&town).await, 2);
        let cid = town.settle_in("cid").await;
        assert!(cid.instance.address() > second, "a slot must not be reused at once");
        town.wait(DAY).await;
        let dora = town.settle_in("dora").await;
        assert_eq!(dora.instance.address(), first);
        assert_eq!(town.settle_in("emil").await.instance.address(), second);
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
    let mut town = FakePlatform::new(&[]).await;
    let mut ids = Vec::new();
    for handle in PEOPLE {
        let resident = town.settle_in(handle).await;
        town.host.write(resident.instance.id, handle.as_bytes());
        ids.push(resident.instance.id);
    }
    // When each account's deletion was scheduled.
    let mut scheduled = [None; PEOPLE.len()];
    for event in sequence {
        apply(&mut town, *event, &mut scheduled).await;
        for (n, handle) in PEOPLE.into_iter().enumerate() {
            let due = scheduled[n].is_some_and(|since| town.clock.now().since(since) >= WEEK);
            let files = town.host.read(ids[n]);
            assert!(
                due || files.as_deref() == Some(handle.as_bytes()),
                "{handle} lost {files:?} by {event:?} of {sequence:?}"
            );
        }
    }
    // Scheduled deletions complete in the end.
    town.host.reconnect();
    for _ in 0..3 {
        advance_deletions(&town).await;
        town.wait(WEEK).await;
    }
    for (n, handle) in PEOPLE.into_iter().enumerate() {
        assert_eq!(town.host.read(ids[n]).is_none(), scheduled[n].is_some(), "{handle} after {sequence:?}");
    }
}

async fn apply(town: &mut FakePlatform, event: Event, scheduled: &mut [Option<berth::clock::Timestamp>]) {
    let handle = |n: usize| Handle::parse(PEOPLE[n]).unwrap();
    match event {
        Event::Prune => {
            for seen in town.host.list().await.unwrap() {
                if seen.container.is_some_and(|container| container.state == ContainerState::Stopped) {
                    town.host.remove_container(seen.instance).await.unwrap();
                }
            }
            town.look().await;
        }
        Event::Stop(n) => {
            if let Some(instance) = town.instances().by_handle(&handle(n)) {
                let _ = town.instances().sleep(&instance, Wish::Stopped, Cause::OwnerAsked).await;
            }
        }
        Event::Crash(n) => {
            if let Some(instance) = town.instances().by_handle(&handle(n)) {
                town.host.crash(instance.id, ContainerExit { code: 1, out_of_memory: false });
            }
        }
        Event::Visit(n) => {
            if let Some(instance) = town.instances().by_handle(&handle(n)) {
                let _ = town.instances().wake(&instance, Cause::Visit).await;
            }
        }
        Event::Kill => town.restart().await,
        Event::ScheduleDeletion(n) => {
            if town.app.accounts.schedule_deletion_of(&handle(n), "operator").await.is_ok() {
                scheduled[n] = Some(town.clock.now());
            }
        }
        Event::CancelDeletion(n) => {
            if town.app.accounts.cancel_deletion_of(&handle(n), "operator").await.is_ok() {
                scheduled[n] = None;
            }
        }
        Event::AdvanceDeletions => drop(advance_deletions(town).await),
        Event::Days(days) => town.wait(DAY * u32::from(days)).await,
        Event::Outage => {
            town.host.cut_off();
            advance_deletions(town).await;
            town.host.reconnect();
        }
    }
    town.instances().settled().await;
}
