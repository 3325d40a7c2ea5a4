//! The remaining budget as gauges, and the warnings when an allowance is nearly or wholly spent. Pure.

use berth_ground::money::Nanodollars;

use super::sums::share;
use crate::http::format::{about, at_least, day as day_in_words, dollars, grouped};
use crate::quota::ledger::BudgetAlert;
use crate::quota::reports::{AccountBudget, RateLimitView};
use crate::quota::{Day, Period};

/// The remaining budget.
pub struct BudgetView {
    pub gauges: Vec<Gauge>,
    /// In dollars; empty when there is no credit.
    pub credit: String,
}

/// One limit and how much of it is left.
pub struct Gauge {
    pub name: &'static str,
    /// `$3.77 left of $5.00`
    pub left: String,
    pub note: String,
    /// Whether there is a limit, and therefore a bar.
    pub limited: bool,
    /// In hundredths of a percent of the limit: at most 10,000.
    pub spent_share: i64,
    pub held_share: i64,
}

/// A warning that an allowance is nearly or wholly spent.
pub struct BudgetAlertView {
    pub sentence: String,
    /// Whether the allowance is spent completely.
    pub spent: bool,
}

/// Describes the remaining budget.
#[must_use]
pub fn budget_view(left: &AccountBudget) -> BudgetView {
    let today = &left.today;
    // Credit counts as part of the month's budget here, because it is spent after the allowance.
    let of_month = left.allowance_nanodollars.saturating_add(left.credit_nanodollars);
    let mut gauges = vec![money_gauge(
        "This month",
        MoneyLimit {
            limit: of_month,
            spent: left.spent_nanodollars,
            held: left.held_nanodollars,
            left: of_month.saturating_sub(left.spent_nanodollars).saturating_sub(left.held_nanodollars),
        },
        left.resets_on,
    )];
    if let (Some(limit), Some(left)) = (today.allowance_nanodollars, today.left_nanodollars) {
        let of_today = MoneyLimit { limit, spent: today.spent_nanodollars, held: today.held_nanodollars, left };
        gauges.push(money_gauge("Today", of_today, today.resets_on));
    } else {
        let spent = format!("{} spent", about(today.spent_nanodollars));
        let note = "no daily limit".into();
        gauges.push(Gauge { name: "Today", left: spent, note, limited: false, spent_share: 0, held_share: 0 });
    }
    gauges.extend(left.requests_a_minute.map(|rate| rate_gauge("Calls per minute", rate)));
    gauges.extend(left.tokens_a_minute.map(|rate| rate_gauge("Tokens per minute", rate)));
    let places = left.calls_at_once;
    gauges.push(Gauge {
        name: "Calls at once",
        left: format!("{} left of {}", places.limit.saturating_sub(places.in_flight), places.limit),
        note: if places.in_flight == 0 { "none in flight".into() } else { format!("{} in flight", places.in_flight) },
        limited: true,
        spent_share: 0,
        held_share: share(places.in_flight.into(), places.limit.into()),
    });
    let credit =
        if left.credit_nanodollars == Nanodollars::ZERO { String::new() } else { dollars(left.credit_nanodollars) };
    BudgetView { gauges, credit }
}

/// A limit in money.
struct MoneyLimit {
    limit: Nanodollars,
    spent: Nanodollars,
    held: Nanodollars,
    left: Nanodollars,
}

fn money_gauge(name: &'static str, money: MoneyLimit, resets_on: Day) -> Gauge {
    let spent_share = share(money.spent.0, money.limit.0);
    let mut note = format!("{} spent", about(money.spent));
    if money.held > Nanodollars::ZERO {
        note.push_str(&format!(", {} held for calls in flight", about(money.held)));
    }
    note.push_str(&format!("; resets on {} at midnight UTC", day_in_words(&resets_on.to_string())));
    Gauge {
        name,
        left: format!("{} left of {}", at_least(money.left), about(money.limit)),
        note,
        limited: true,
        spent_share,
        // Rounding up small shares must not push the bar past its end.
        held_share: share(money.held.0, money.limit.0).min(10_000 - spent_share),
    }
}

fn rate_gauge(name: &'static str, rate: RateLimitView) -> Gauge {
    let used = rate.limit.saturating_sub(rate.remaining);
    Gauge {
        name,
        left: format!("{} left of {}", grouped(rate.remaining.into()), grouped(rate.limit.into())),
        note: if used == 0 { "unused".into() } else { format!("full again in {} s", rate.full_in_seconds) },
        limited: true,
        spent_share: share(used.into(), rate.limit.into()),
        held_share: 0,
    }
}

/// Describes alerts by the present state: an alert is left out when its limit was raised or removed since.
#[must_use]
pub fn budget_alert_views(alerts: &[BudgetAlert], left: &AccountBudget) -> Vec<BudgetAlertView> {
    let today = &left.today;
    // Credit that is held for calls in flight cannot pay for another call.
    let has_credit = left.credit_nanodollars.min(left.left_nanodollars) > Nanodollars::ZERO;
    let month = Some((left.allowance_nanodollars, left.spent_nanodollars, left.resets_on, has_credit));
    let day = today.allowance_nanodollars.map(|of| (of, today.spent_nanodollars, today.resets_on, false));
    [("this month's", Period::Month(left.period), month), ("today's", Period::Day(today.day), day)]
        .into_iter()
        .filter(|(_, period, _)| alerts.iter().any(|alert| alert.period == *period))
        .filter_map(|(whose, _, money)| {
            let (allowance, spent, resets_on, has_credit) = money?;
            // Judged by the current figures, because the operator may have raised the limit since the alert.
            let is_spent = spent >= allowance;
            if !spent.is_at_least_percent_of(80, allowance) {
                return None;
            }
            let (of, said, until) = (about(allowance), about(spent), day_in_words(&resets_on.to_string()));
            let sentence = if is_spent && has_credit {
                format!("All {of} of {whose} AI allowance is spent. Calls now use your credit.")
            } else if is_spent {
                format!(
                    "All {of} of {whose} AI allowance is spent. It covers no further calls until {until} at midnight UTC."
                )
            } else {
                format!(
                    "More than 80 % of {whose} AI allowance is spent: {said} of {of}. A call that may cost more than \
                     what is left is refused until {until}."
                )
            };
            Some(BudgetAlertView { sentence, spent: is_spent })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::reports::{CallConcurrency, DayBudget};

    #[test]
    fn an_alert_says_what_becomes_of_calls() {
        let alert = |period: &str, percent| BudgetAlert {
            account_id: crate::db::AccountId(uuid::Uuid::from_u128(1)),
            period: period.parse().unwrap(),
            percent,
            allowance_nanodollars: Nanodollars(1),
            spent_nanodollars: Nanodollars(1),
            raised_at_ms: 0,
        };
        let mut left = AccountBudget {
            period: "2026-11".parse().unwrap(),
            allowance_nanodollars: Nanodollars(5_000_000_000),
            credit_nanodollars: Nanodollars::ZERO,
            spent_nanodollars: Nanodollars(4_100_000_000),
            held_nanodollars: Nanodollars::ZERO,
            left_nanodollars: Nanodollars(900_000_000),
            resets_on: "2026-12-01".parse().unwrap(),
            today: DayBudget {
                day: "2026-11-20".parse().unwrap(),
                allowance_nanodollars: None,
                spent_nanodollars: Nanodollars::ZERO,
                held_nanodollars: Nanodollars::ZERO,
                left_nanodollars: None,
                resets_on: "2026-11-21".parse().unwrap(),
            },
            requests_a_minute: None,
            tokens_a_minute: None,
            calls_at_once: CallConcurrency { limit: 5, in_flight: 0 },
        };
        let said = |alerts: &[BudgetAlert], left: &AccountBudget| {
            budget_alert_views(alerts, left).into_iter().map(|alert| alert.sentence).collect::<Vec<_>>().join(" ")
        };
        let month = [alert("2026-11", 80), alert("2026-11-20", 80)];
        assert!(
            said(&month, &left).starts_with("More than 80 % of this month's AI allowance is spent: $4.10 of $5.00.")
        );
        assert!(!said(&month, &left).contains("today"), "a day without a limit has none to be spent");
        let all = [alert("2026-11", 80), alert("2026-11", 100)];
        (left.left_nanodollars, left.spent_nanodollars) = (Nanodollars::ZERO, Nanodollars(5_000_000_000));
        assert_eq!(
            said(&all, &left),
            "All $5.00 of this month's AI allowance is spent. It covers no further calls until 1 Dec at midnight UTC."
        );
        (left.left_nanodollars, left.credit_nanodollars) = (Nanodollars(1_000_000_000), Nanodollars(1_000_000_000));
        assert!(said(&all, &left).ends_with("Calls now use your credit."));
        left.allowance_nanodollars = Nanodollars(20_000_000_000);
        assert_eq!(said(&all, &left), "", "raised since");
    }
}
