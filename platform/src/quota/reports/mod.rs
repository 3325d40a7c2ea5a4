//! Reports: remaining budgets, spending by month, day, model and agent, alerts, and the comparison with providers'
//! bills.

mod alerts;
mod bill_comparison;
mod budget;
mod spending;
mod store;
mod sums;
mod totals;

pub use alerts::ALERT_WEBHOOK_PATH;
pub use bill_comparison::{BillDifference, BilledAmounts, total as total_difference};
pub use budget::{AccountBudget, CallConcurrency, DayBudget, RateLimitView};
pub use spending::Reports;
pub use sums::{AccountOrder, ModelSpend, MonthSpend, NamedSpend, SpendBreakdown};
pub use totals::{AccountSpend, MonthTotals, PAGE_SIZE};
