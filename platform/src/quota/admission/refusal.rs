//! Reasons for which a call is refused.

use std::time::Duration;

use berth_ground::clock::Timestamp;
use berth_ground::error::Error;
use berth_ground::money::Nanodollars;

use super::books::LimitExceeded;
use crate::quota::calendar::{Day, Month};
use crate::quota::prices::UnboundedCost;

/// The Retry-After for a caller with too many calls in flight: calls take seconds, and SDKs back off by themselves.
pub(in crate::quota) const TRY_AGAIN: Duration = Duration::from_secs(1);

/// The reason for which a call is refused. Nothing was held.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is no price for it.
    #[error("no price for model {model}")]
    UnknownModel { model: String },
    /// Neither the price table nor the call sets a bound to the cost.
    #[error("no bound for model {model}")]
    NoBound { model: String, why: UnboundedCost },
    /// It could cost more than is left of `what`.
    #[error("over the allowance of the {}", what.as_str())]
    OverAllowance {
        what: BudgetPeriod,
        left_nanodollars: Nanodollars,
        held_nanodollars: Nanodollars,
        needed_nanodollars: Nanodollars,
        resets_on: Day,
    },
    /// The limit of concurrent calls is reached.
    #[error("too many calls at once")]
    TooManyAtOnce { limit: u32, retry_after: Duration },
    #[error("too many requests a minute")]
    TooManyRequests { limit: u32, retry_after: Duration },
    #[error("too many tokens a minute")]
    TooManyTokens { limit: u32, retry_after: Duration },
    /// The books cannot be read or written just now.
    #[error(transparent)]
    Unavailable(#[from] Error),
}

/// The period of an allowance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BudgetPeriod {
    Month,
    Day,
}

impl BudgetPeriod {
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Month => "month",
            Self::Day => "day",
        }
    }
}

impl Refusal {
    /// Whether a smaller call may fit: something is left, and this call could need more than that.
    #[must_use]
    pub fn leaves_room(&self) -> bool {
        match self {
            Self::OverAllowance { left_nanodollars, .. } => *left_nanodollars > Nanodollars::ZERO,
            Self::TooManyTokens { .. } => true,
            _ => false,
        }
    }

    /// What `over` means for a call that could cost `needed_nanodollars`.
    pub(super) fn of(over: LimitExceeded, needed_nanodollars: Nanodollars, now: Timestamp) -> Self {
        let money = |what, left_nanodollars, held_nanodollars, resets_on| Self::OverAllowance {
            what,
            left_nanodollars,
            held_nanodollars,
            needed_nanodollars,
            resets_on,
        };
        match over {
            LimitExceeded::Month { left_nanodollars, held_nanodollars } => {
                money(BudgetPeriod::Month, left_nanodollars, held_nanodollars, Month::of(now).next().first_day())
            }
            LimitExceeded::Day { left_nanodollars, held_nanodollars } => {
                money(BudgetPeriod::Day, left_nanodollars, held_nanodollars, Day::of(now).next())
            }
            LimitExceeded::CallsAtOnce { limit } => Self::TooManyAtOnce { limit, retry_after: TRY_AGAIN },
            LimitExceeded::RequestsAMinute { limit, wait } => Self::TooManyRequests { limit, retry_after: wait },
            LimitExceeded::TokensAMinute { limit, wait } => Self::TooManyTokens { limit, retry_after: wait },
        }
    }
}

/// The journal cannot be written.
pub(in crate::quota) fn disk_refuses(error: &std::io::Error) -> Error {
    tracing::error!(%error, "the quota journal cannot be written: no AI call is made");
    Error::Unavailable {
        message: "The server cannot write down what AI calls cost just now, so it makes none. Nothing was lost.".into(),
        retry_after: Duration::from_secs(60),
    }
}
