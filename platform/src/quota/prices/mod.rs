//! Price tables, the one in force, and the arithmetic of the cost of calls.

mod book;
mod entities;
mod price_comparison;
mod rules;
mod store;
mod tables;
mod tariffs;
mod unknown_models;

pub(super) use book::PriceBook;
pub use book::PriceChanges;
pub use price_comparison::{PriceCatalogue, PriceDifference, PricedModel};
pub use rules::{CallOutcome, Charge, ChargeBasis, CostBound, UnboundedCost, dollars};
pub(super) use rules::{bound, charge, cost, is_priced};
pub use tables::{PriceTable, PriceTables, TableEvent};
pub use tariffs::{Price, Tariff, TokenRates};
pub(super) use unknown_models::REASON as UNKNOWN_MODEL_REASON;

#[cfg(test)]
pub(super) use rules::tests as rules_tests;
