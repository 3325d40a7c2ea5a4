//! Admission control: checks a call against all limits of its account at once, and keeps the limits of single accounts.

mod account_limits;
mod accounts;
mod books;
mod calls;
mod entities;
mod limit_changes;
mod payer;
mod refusal;
mod shortening;
mod store;
mod token_bucket;

pub use account_limits::{AccountLimits, CreditGrant};
pub use accounts::Admission;
pub(super) use accounts::SharedBooks;
pub(super) use books::{Booking, Books, CallAmount};
pub use books::{RateLimitState, RateLimits};
pub(super) use calls::{BookedCall, FittedCall, Fitting};
pub use calls::{BudgetCall, OwnKeyCall};
pub use payer::Payer;
pub use refusal::{BudgetPeriod, Refusal};
pub(super) use refusal::{TRY_AGAIN, disk_refuses};
