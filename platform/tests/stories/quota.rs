//! Money: what fits is admitted, what does not is not, and nothing stays held.

use berth::quota::{CacheWrites, Call, Demand, Hold, InputBound, Outcome, Provider, Refusal, Seen, Usage};

use sea_orm::ConnectionTrait as _;

use super::calls::{Person, World, kinds, reopen};

/// 2,000 output tokens of the demo model are at most a tenth of a cent.
const OUTPUT_TOKENS: u64 = 2000;
const HOLD: i64 = 1_000_000;

fn call(person: &Person) -> Call {
    let demand = Demand {
        provider: Provider::Anthropic,
        model: "berth-demo".into(),
        input: InputBound::Tokens(0),
        cache_writes: CacheWrites::Never,
        max_output_tokens: Some(OUTPUT_TOKENS),
        answers: 1,
        extra_output_tokens: 0,
        may_be_us: false,
        may_hide_output: false,
    };
    Call { account: person.instance.account, instance: person.instance.id, demand }
}

fn used(hold: Hold, output_tokens: u64) {
    let usage = Usage { output_tokens, ..Usage::default() };
    hold.settle(Seen::Final(usage), Outcome::Completed, String::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_a_hundred_calls_at_once_exactly_those_that_fit_are_admitted() {
    for kind in kinds() {
        let world = World::open(kind, |config| config.allowance_nanodollars = 7 * HOLD + HOLD / 2).await;
        let alice = world.person("alice").await;
        let calls: Vec<_> = (0..100)
            .map(|_| {
                let (quota, call) = (world.app.quota.clone(), call(&alice));
                tokio::spawn(async move { quota.admit(call).await })
            })
            .collect();
        let mut holds = Vec::new();
        for admitted in calls {
            match admitted.await.unwrap() {
                Ok(hold) => holds.push(hold),
                Err(Refusal::OverAllowance { needed_nanodollars, .. }) => assert_eq!(needed_nanodollars, HOLD),
                Err(other) => panic!("{kind:?}: {other}"),
            }
        }
        assert_eq!(holds.len(), 7, "{kind:?}");
        let spend = world.app.quota.spend(alice.instance.account).await.unwrap();
        assert_eq!((spend.held_nanodollars, spend.spent_nanodollars), (7 * HOLD, 0));
        holds.into_iter().for_each(|hold| used(hold, OUTPUT_TOKENS));
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars, 7 * HOLD, "{kind:?}");
    }
}

#[tokio::test]
async fn what_was_held_and_not_used_is_there_for_the_next_call_at_once() {
    for kind in kinds() {
        let world = World::open(kind, |config| config.allowance_nanodollars = 2 * HOLD).await;
        let alice = world.person("alice").await;
        // Each call holds half of what there is and uses a tenth of it; a phantom hold would refuse the third.
        for round in 1..=10 {
            let first = world.app.quota.admit(call(&alice)).await.unwrap();
            used(first, OUTPUT_TOKENS / 10);
            assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars, round * HOLD / 10, "{kind:?}");
        }
        let hold = world.app.quota.admit(call(&alice)).await.unwrap();
        let refused = world.app.quota.admit(call(&alice)).await.err();
        assert!(matches!(refused, Some(Refusal::OverAllowance { left_nanodollars: 0, .. })), "{kind:?}: {refused:?}");
        drop(hold);
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars, HOLD);
    }
}

#[tokio::test]
async fn a_dropped_call_is_settled_and_cost_nothing_before_it_was_sent() {
    let world = World::open(super::calls::Kind::Sqlite, |_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    drop(world.app.quota.admit(call(&alice)).await.unwrap());
    assert_eq!(world.receipt(&alice).await, (0, "provider".into(), "client_gone".into()));
    let mut demand = call(&bob);
    demand.demand.input = InputBound::Tokens(1000);
    let mut sent = world.app.quota.admit(demand).await.unwrap();
    sent.mark_sent();
    drop(sent);
    // A thousand tokens of input at a tenth of a dollar a million.
    assert_eq!(world.receipt(&bob).await, (100_000, "observed".into(), "client_gone".into()));
    assert_eq!(world.spend_at_rest(&bob).await.spent_nanodollars, 100_000);
    // The same where reasoning may have been charged: the whole of what was held.
    let carol = world.person("carol").await;
    let mut reasoning = call(&carol);
    reasoning.demand.may_hide_output = true;
    let mut sent = world.app.quota.admit(reasoning).await.unwrap();
    sent.mark_sent();
    drop(sent);
    assert_eq!(world.receipt(&carol).await, (HOLD, "held".into(), "client_gone".into()));
}

#[tokio::test]
async fn a_call_that_cannot_be_settled_keeps_no_other_waiting_and_is_not_given_up() {
    let world = World::open(super::calls::Kind::Sqlite, |_| ()).await;
    let (alice, bob) = (world.person("alice").await, world.person("bob").await);
    let stuck = world.app.quota.admit(call(&alice)).await.unwrap();
    let write = async |sql: &str| {
        let tx = world.app.db.begin().await.unwrap();
        tx.execute_unprepared(sql).await.unwrap();
        tx.commit().await.unwrap();
    };
    write("CREATE TRIGGER stuck BEFORE DELETE ON holds BEGIN SELECT RAISE(ABORT, 'not now'); END").await;
    used(stuck, OUTPUT_TOKENS);
    world.app.quota.settled().await;
    write("DROP TRIGGER stuck").await;
    let next = world.app.quota.admit(call(&bob)).await.unwrap();
    used(next, OUTPUT_TOKENS);
    assert_eq!(world.spend_at_rest(&bob).await.spent_nanodollars, HOLD);
    for _ in 0..300 {
        if world.app.quota.spend(alice.instance.account).await.unwrap().spent_nanodollars == HOLD {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("the call was given up");
}

#[tokio::test]
async fn what_clearly_does_not_fit_is_refused_without_waiting_for_the_writer() {
    let world = World::open(super::calls::Kind::Sqlite, |config| config.allowance_nanodollars = HOLD / 2).await;
    let alice = world.person("alice").await;
    let writing = world.app.db.begin().await.unwrap();
    let refused = tokio::time::timeout(std::time::Duration::from_secs(2), world.app.quota.admit(call(&alice))).await;
    assert!(matches!(refused.unwrap().err(), Some(Refusal::OverAllowance { needed_nanodollars: HOLD, .. })));
    drop(writing);
}

#[tokio::test]
async fn what_a_crash_left_held_is_charged_whole_at_the_next_start_and_refuses_nobody() {
    for kind in kinds() {
        let world = World::open(kind, |config| config.allowance_nanodollars = 2 * HOLD).await;
        let alice = world.person("alice").await;
        // A process that ends here runs no destructor.
        std::mem::forget(world.app.quota.admit(call(&alice)).await.unwrap());
        let after = reopen(&world).await;
        assert_eq!(after.spend(alice.instance.account).await.unwrap().held_nanodollars, HOLD, "an operator's command");
        after.begin().await.unwrap();
        assert_eq!(world.receipt(&alice).await, (HOLD, "held".into(), "recovered".into()), "{kind:?}");
        used(after.admit(call(&alice)).await.unwrap(), 0);
        after.settled().await;
        assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars, HOLD);
    }
}

#[tokio::test]
async fn calls_at_once_are_limited_for_each_account_by_itself() {
    for kind in kinds() {
        let world = World::open(kind, |config| config.calls_at_once = 2).await;
        let (alice, bob) = (world.person("alice").await, world.person("bob").await);
        let quota = &world.app.quota;
        let first = quota.admit(call(&alice)).await.unwrap();
        let _second = quota.admit(call(&alice)).await.unwrap();
        assert!(matches!(quota.admit(call(&alice)).await.err(), Some(Refusal::TooManyAtOnce { limit: 2, .. })));
        assert!(quota.admit(call(&bob)).await.is_ok());
        used(first, 1);
        assert!(quota.admit(call(&alice)).await.is_ok(), "{kind:?}: the first call has ended");
    }
}

#[tokio::test]
async fn more_than_was_held_is_recorded_as_it_was_charged() {
    let world = World::open(super::calls::Kind::Sqlite, |_| ()).await;
    let alice = world.person("alice").await;
    used(world.app.quota.admit(call(&alice)).await.unwrap(), 3 * OUTPUT_TOKENS);
    assert_eq!(world.spend_at_rest(&alice).await.spent_nanodollars, 3 * HOLD);
}

#[tokio::test]
async fn a_model_without_a_price_is_not_called() {
    let world = World::open(super::calls::Kind::Sqlite, |_| ()).await;
    let alice = world.person("alice").await;
    let mut unknown = call(&alice);
    unknown.demand.model = "claude-of-tomorrow".into();
    assert!(matches!(world.app.quota.admit(unknown).await.err(), Some(Refusal::UnknownModel { .. })));
}
