//! Reports: what was spent by account, month, day and model; alerts, receipts, and providers' bills beside them.

pub(super) mod alerts;
pub(super) mod bill_comparison;
pub(super) mod receipts;
pub(super) mod summary;
pub(super) mod totals;
