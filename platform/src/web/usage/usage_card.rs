//! The dashboard's card about AI usage in the present month. Pure.

use berth_ground::money::Nanodollars;

use super::sums::share;
use crate::http::format::{dollars, grouped, month};
use crate::quota::reports::{AccountBudget, ModelSpend};

/// The card's content.
pub struct UsageCardView {
    /// `November 2026`
    pub month: String,
    pub spent: String,
    pub held: String,
    pub left: String,
    pub allowance: String,
    /// In hundredths of a percent of the allowance: at most 10,000.
    pub spent_share: i64,
    pub held_share: i64,
    pub holds: bool,
    pub models: Vec<ModelUsageView>,
}

/// A model's row in the card's table.
pub struct ModelUsageView {
    pub model: String,
    pub provider: String,
    pub calls: String,
    pub input_tokens: String,
    pub output_tokens: String,
    pub amount: String,
}

/// Describes the present month's usage.
#[must_use]
pub fn usage_card(spend: &AccountBudget, models: &[ModelSpend]) -> UsageCardView {
    let spent_share = share(spend.spent_nanodollars.0, spend.allowance_nanodollars.0);
    UsageCardView {
        month: month(&spend.period.to_string()),
        spent: dollars(spend.spent_nanodollars),
        held: dollars(spend.held_nanodollars),
        left: dollars(spend.left_nanodollars.max(Nanodollars::ZERO)),
        allowance: dollars(spend.allowance_nanodollars),
        spent_share,
        held_share: share(spend.held_nanodollars.0, spend.allowance_nanodollars.0).min(10_000 - spent_share),
        holds: spend.held_nanodollars > Nanodollars::ZERO,
        models: models.iter().map(model).collect(),
    }
}

fn model(spend: &ModelSpend) -> ModelUsageView {
    ModelUsageView {
        model: spend.model.clone(),
        provider: spend.provider.clone(),
        calls: grouped(spend.calls),
        input_tokens: grouped(spend.input_tokens),
        output_tokens: grouped(spend.output_tokens),
        amount: dollars(spend.amount_nanodollars),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quota::reports::{CallConcurrency, DayBudget};

    #[test]
    fn what_is_left_counts_holds_and_the_bar_never_overflows() {
        let spend = |spent, held| AccountBudget {
            period: "2026-11".parse().unwrap(),
            allowance_nanodollars: Nanodollars(5_000_000_000),
            credit_nanodollars: Nanodollars::ZERO,
            spent_nanodollars: Nanodollars(spent),
            held_nanodollars: Nanodollars(held),
            left_nanodollars: Nanodollars(5_000_000_000 - spent - held),
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
        let some = usage_card(&spend(1_000_000_000, 500_000_000), &[]);
        assert_eq!((some.left.as_str(), some.month.as_str()), ("$3.50", "November 2026"));
        assert_eq!((some.spent_share, some.held_share), (2000, 1000));
        let over = usage_card(&spend(5_000_000_000, 1_000_000_000), &[]);
        assert_eq!((over.left.as_str(), over.spent_share, over.held_share), ("$0.00", 10_000, 0));
        assert_eq!(usage_card(&spend(1, 0), &[]).spent_share, 40);
    }
}
