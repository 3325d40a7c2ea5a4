//! Alert thresholds: an alert is raised once when 80 % of an allowance is spent, and once at 100 %.
//!
//! Alerts are raised in the transaction that books the spending, so none is missed.

use std::collections::{HashMap, HashSet};

use berth_ground::clock::Timestamp;
use berth_ground::error::Result;
use berth_ground::money::Nanodollars;

use super::budget_alert::BudgetAlert;
use super::entries::LedgerEntry;
use super::store::{self, DayOfAccount, MonthOfAccount};
use crate::db::{AccountId, Tx};
use crate::quota::calendar::{Day, Month, Period};

/// In percent of an allowance.
const THRESHOLDS: [i64; 2] = [80, 100];

/// Raises the alerts that are due after `batch` was booked. A call that ended after its period raises none for it.
pub async fn raise_alerts(tx: &Tx, batch: &[LedgerEntry]) -> Result<()> {
    let mut months: HashSet<(AccountId, Month)> = HashSet::new();
    let mut days: HashMap<(AccountId, Day), Nanodollars> = HashMap::new();
    let mut now = Timestamp(0);
    for entry in batch {
        let (account, at) = (entry.account(), entry.at());
        now = now.max(at);
        if entry.month() == Month::of(at) {
            months.insert((account, entry.month()));
        }
        if let Some(allowance) = entry.day_allowance_nanodollars
            && entry.day() == Day::of(at)
        {
            days.insert((account, entry.day()), allowance);
        }
    }
    let mut due = Vec::new();
    for sums in store::spent_in_months(tx, &months).await? {
        // The query matches accounts and months separately, so it may return other pairs as well.
        if months.contains(&(sums.account, sums.month)) {
            let MonthOfAccount { account, month, allowance_nanodollars, spent_nanodollars } = sums;
            let period = Period::Month(month);
            due.extend(reached(&PeriodSpend { account, period, allowance_nanodollars, spent_nanodollars }, now));
        }
    }
    for DayOfAccount { account, day, spent_nanodollars } in store::spent_in_days(tx, days.keys()).await? {
        if let Some(allowance_nanodollars) = days.get(&(account, day)).copied() {
            let period = Period::Day(day);
            due.extend(reached(&PeriodSpend { account, period, allowance_nanodollars, spent_nanodollars }, now));
        }
    }
    store::add_alerts(tx, due).await
}

/// Allowance and spending of one account in a month, or on a day.
struct PeriodSpend {
    account: AccountId,
    period: Period,
    allowance_nanodollars: Nanodollars,
    spent_nanodollars: Nanodollars,
}

/// The alerts of a period for the thresholds that its spending reached.
fn reached(of: &PeriodSpend, now: Timestamp) -> Vec<BudgetAlert> {
    let PeriodSpend { account, period, allowance_nanodollars: allowance, spent_nanodollars: spent } = *of;
    let whole = allowance.max(Nanodollars::ZERO);
    let is_reached = |percent| spent > Nanodollars::ZERO && spent.is_at_least_percent_of(percent, whole);
    let raised = THRESHOLDS.into_iter().filter(|percent| is_reached(*percent)).map(|percent| BudgetAlert {
        account_id: account,
        period,
        percent,
        allowance_nanodollars: allowance,
        spent_nanodollars: spent,
        raised_at_ms: now.0,
    });
    raised.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_reached_to_the_nanodollar() {
        let account = AccountId(uuid::Uuid::from_u128(1));
        let percents = |allowance, spent| {
            let (allowance_nanodollars, spent_nanodollars) = (Nanodollars(allowance), Nanodollars(spent));
            let of =
                PeriodSpend { account, period: "2026-11".parse().unwrap(), allowance_nanodollars, spent_nanodollars };
            let raised = reached(&of, Timestamp(0));
            raised.iter().map(|alert| alert.percent).collect::<Vec<_>>()
        };
        for (allowance, spent, want) in [
            (5_000_000_000, 3_999_999_999, &[][..]),
            (5_000_000_000, 4_000_000_000, &[80]),
            (5_000_000_000, 4_999_999_999, &[80]),
            (5_000_000_000, 5_000_000_000, &[80, 100]),
            (i64::MAX, i64::MAX, &[80, 100]),
            (0, 0, &[]),
            (0, 1, &[80, 100]),
        ] {
            assert_eq!(percents(allowance, spent), want, "{spent} of {allowance}");
        }
    }
}
