//! Admission as tables and properties.

use berth_ground::money::Nanodollars;
use proptest::prelude::*;

use super::*;

/// A Sunday in November 2026.
const START: Timestamp = Timestamp(1_794_738_600_000);
const LIMITS: CallLimits = CallLimits {
    month_nanodollars: Nanodollars(1000),
    day_nanodollars: None,
    requests_a_minute: None,
    tokens_a_minute: None,
    calls_at_once: 1000,
};

fn account(limits: CallLimits) -> Books {
    account_with_credit(limits, 0)
}

fn account_with_credit(limits: CallLimits, granted: i64) -> Books {
    let credit = Credit { granted: Nanodollars(granted), used: Nanodollars::ZERO };
    Books::new(limits, credit, Nanodollars::ZERO, Nanodollars::ZERO, START)
}

fn money(nanodollars: i64) -> CallAmount {
    CallAmount { nanodollars: Nanodollars(nanodollars), tokens: 0 }
}

fn after(seconds: u64) -> Timestamp {
    START.plus(Duration::from_secs(seconds))
}

#[test]
fn what_does_not_fit_takes_nothing() {
    let mut account = account(LIMITS);
    let first = account.admit(money(600), "", START).unwrap();
    let over = LimitExceeded::Month { left_nanodollars: Nanodollars(400), held_nanodollars: Nanodollars(600) };
    assert_eq!(account.admit(money(401), "", START), Err(over));
    assert_eq!(account.left_this_month().0, 400);
    account.settle(&first, money(600), money(100));
    assert_eq!(account.left_this_month().0, 900);
    assert!(account.admit(money(900), "", START).is_ok());
}

#[test]
fn a_day_has_a_limit_of_its_own_and_is_whole_again_at_midnight() {
    let mut account = account(CallLimits { day_nanodollars: Some(Nanodollars(300)), ..LIMITS });
    let place = account.admit(money(300), "", START).unwrap();
    assert_eq!(
        account.admit(money(1), "", START),
        Err(LimitExceeded::Day { left_nanodollars: Nanodollars(0), held_nanodollars: Nanodollars(300) })
    );
    assert!(account.admit(money(300), "", after(86_400)).is_ok());
    // The call of yesterday costs the month, and nothing of today.
    account.settle(&place, money(300), money(200));
    assert_eq!((account.left_today(), account.left_this_month().0), (Some(Nanodollars::ZERO), 500));
}

#[test]
fn a_clock_that_was_set_back_opens_no_month_again() {
    let mut account = account(LIMITS);
    let in_december = after(20 * 86_400);
    account.admit(money(1000), "", in_december).unwrap();
    assert!(matches!(account.admit(money(1), "", START), Err(LimitExceeded::Month { .. })));
    assert_eq!(account.month().period.to_string(), "2026-12");
}

#[test]
fn credit_pays_what_the_months_allowance_does_not_and_is_used_up_once() {
    let mut account = account_with_credit(LIMITS, 500);
    let place = account.admit(money(1300), "", START).unwrap();
    assert_eq!(account.left_this_month().0, 200);
    // Still in flight when December begins: what it may take of the credit stays taken.
    account.turn(after(20 * 86_400));
    assert_eq!((account.credit().0, account.left_this_month().0), (200, 1200));
    account.settle(&place, money(1300), money(1100));
    assert_eq!((account.credit().0, account.left_this_month().0), (400, 1400));
}

#[test]
fn what_is_corrected_counts_in_the_month_and_on_the_day_of_the_call_wherever_that_is_now() {
    let mut account = account_with_credit(LIMITS, 500);
    let (november, fifteenth) = (Month::of(START), Day::of(START));
    let first = account.admit(money(1200), "", START).unwrap();
    let second = account.admit(money(100), "", START).unwrap();
    account.settle(&first, money(1200), money(1200));
    account.correct(november, fifteenth, Nanodollars(-300), START);
    assert_eq!((account.left_this_month().0, account.today().spent_nanodollars.0), (500, 900), "this month and today");
    // A call of November is still in flight in December, and then it is not.
    let december = after(20 * 86_400);
    account.correct(november, fifteenth, Nanodollars(200), december);
    assert_eq!((account.credit().0, account.left_this_month().0), (300, 1300), "1,100 and what is held");
    account.settle(&second, money(100), money(0));
    assert_eq!((account.credit().0, account.left_this_month().0), (400, 1400));
    assert_eq!(
        account.correct(november, fifteenth, Nanodollars(50), december).0,
        1000,
        "the allowance that it is part of"
    );
    assert_eq!((account.credit().0, account.today().spent_nanodollars.0), (350, 0));
    account.correct(november, fifteenth, Nanodollars(-1150), december);
    assert_eq!(account.credit().0, 500, "no more than there was");
}

#[test]
fn requests_a_minute_flow_back_evenly_and_the_wait_is_said() {
    let mut account = account(CallLimits { requests_a_minute: Some(60), ..LIMITS });
    for _ in 0..60 {
        let place = account.admit(money(0), "", START).unwrap();
        account.settle(&place, money(0), money(0));
    }
    let Err(LimitExceeded::RequestsAMinute { limit: 60, wait }) = account.admit(money(0), "", START) else { panic!() };
    assert!(account.admit(money(0), "", START.plus(wait)).is_ok());
    assert!(wait <= Duration::from_millis(1001), "{wait:?}");
    let RateLimits { requests, tokens } = account.rates();
    assert_eq!((requests.unwrap().remaining, tokens), (0, None));
}

#[test]
fn tokens_count_as_held_until_a_call_is_over_and_then_as_used() {
    let mut account = account(CallLimits { tokens_a_minute: Some(1000), ..LIMITS });
    let tokens = |tokens| CallAmount { nanodollars: Nanodollars::ZERO, tokens };
    let place = account.admit(tokens(900), "", START).unwrap();
    assert!(matches!(account.admit(tokens(200), "", START), Err(LimitExceeded::TokensAMinute { limit: 1000, .. })));
    account.settle(&place, tokens(900), tokens(100));
    assert!(account.admit(tokens(900), "", START).is_ok());
    // More than a minute ever has: it waits for all of it, and the debt is paid off before the next.
    let Err(LimitExceeded::TokensAMinute { wait, .. }) = account.admit(tokens(5000), "", START) else { panic!() };
    assert!(account.admit(tokens(5000), "", START.plus(wait)).is_ok());
    assert!(account.admit(tokens(1), "", START.plus(wait).plus(Duration::from_secs(239))).is_err());
    assert!(account.admit(tokens(1), "", START.plus(wait).plus(Duration::from_secs(241))).is_ok());
}

#[test]
fn a_place_that_becomes_free_is_kept_for_the_agent_that_has_fewer() {
    let mut account = account(CallLimits { calls_at_once: 2, ..LIMITS });
    let first = account.admit(money(0), "greedy", START).unwrap();
    let second = account.admit(money(0), "greedy", START).unwrap();
    assert_eq!(account.admit(money(0), "modest", START), Err(LimitExceeded::CallsAtOnce { limit: 2 }));
    account.settle(&first, money(0), money(0));
    assert!(account.admit(money(0), "greedy", START).is_err(), "the place is modest's");
    assert!(account.admit(money(0), "modest", after(1)).is_ok());
    account.settle(&second, money(0), money(0));
    assert!(account.admit(money(0), "greedy", after(1)).is_ok(), "nobody waits any more");
}

#[test]
fn an_agent_that_did_not_come_again_keeps_no_place() {
    let mut account = account(CallLimits { calls_at_once: 2, ..LIMITS });
    let first = account.admit(money(0), "greedy", START).unwrap();
    account.admit(money(0), "greedy", START).unwrap();
    assert!(account.admit(money(0), "gone", START).is_err());
    account.settle(&first, money(0), money(0));
    assert!(account.admit(money(0), "greedy", after(2)).is_ok());
}

proptest! {
    /// The amount that `most` returns is admitted, and more is refused.
    #[test]
    fn the_most_that_a_call_may_need_is_what_is_admitted_and_not_a_bit_more(
        calls in prop::collection::vec((0_i64..300, 0_u64..400, 0_u64..20, any::<bool>()), 1..40),
        day in prop::option::of(1_i64..900), tokens in prop::option::of(1_u32..1000),
    ) {
        let limits = CallLimits { day_nanodollars: day.map(Nanodollars), tokens_a_minute: tokens, ..LIMITS };
        let mut account = account_with_credit(limits, 50);
        let mut now = 0;
        for (nanodollars, tokens, later, ends) in calls {
            now += later;
            let needed = CallAmount { tokens, ..money(nanodollars) };
            if let Ok(place) = account.admit(needed, "", after(now)) && ends {
                account.settle(&place, needed, CallAmount { tokens: tokens / 2, ..money(nanodollars / 3) });
            }
            account.fill(after(now));
            let most = account.most();
            let admit = |needed| account.clone().admit(needed, "", after(now));
            let more_money = CallAmount { tokens: 1, ..money(most.nanodollars.0 + 1) };
            let is_refused = matches!(admit(more_money), Err(LimitExceeded::Month { .. } | LimitExceeded::Day { .. }));
            prop_assert!(is_refused, "{more_money:?}");
            if most.tokens > 0 {
                prop_assert!(admit(most).is_ok());
            }
            if most.tokens < u64::MAX {
                let more_tokens = CallAmount { nanodollars: Nanodollars::ZERO, tokens: most.tokens + 1 };
                let is_refused = matches!(admit(more_tokens), Err(LimitExceeded::TokensAMinute { .. }));
                prop_assert!(is_refused, "{more_tokens:?}");
            }
        }
    }

    /// As calls start, end and cross months and days, holds and spending together stay within the limits; at rest
    /// nothing is held.
    #[test]
    fn nothing_overshoots_and_nothing_stays_held(
        calls in prop::collection::vec((0_i64..400, 0_i64..400, 0_u64..40 * 86_400, any::<bool>()), 1..120),
    ) {
        let limits = CallLimits { day_nanodollars: Some(Nanodollars(700)), calls_at_once: 9, ..LIMITS };
        let credit = 300;
        let mut account = account_with_credit(limits, credit);
        let mut open = Vec::new();
        let mut spent = HashMap::<Month, i64>::new();
        let mut now = 0;
        for (needed, used, later, ends) in calls {
            now += later / 20;
            if let Ok(place) = account.admit(money(needed), "", after(now)) {
                open.push((place, needed));
            }
            prop_assert!(account.left_this_month() >= Nanodollars::ZERO);
            prop_assert!(account.left_today().unwrap() >= Nanodollars::ZERO);
            prop_assert!(open.len() <= 9);
            if ends && !open.is_empty() {
                let (place, needed) = open.swap_remove(0);
                let used = used.min(needed);
                account.settle(&place, money(needed), money(used));
                *spent.entry(place.month).or_default() += used;
            }
        }
        for (place, needed) in open {
            account.settle(&place, money(needed), money(0));
        }
        prop_assert_eq!([account.month().held_nanodollars, account.day.held_nanodollars], [Nanodollars::ZERO; 2]);
        prop_assert!(account.earlier.is_empty() && account.agents.is_empty() && account.in_flight == 0);
        let beyond: i64 = spent.values().map(|spent| (spent - limits.month_nanodollars.0).max(0)).sum();
        prop_assert!(beyond <= credit, "{beyond} of {credit}");
    }
}
