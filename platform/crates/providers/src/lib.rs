//! The wire formats of model providers: what a call can cost, read from its body, and what it used, read from its answer.
//!
//! No I/O and no async: bytes in, figures out. `fuzz/` has a target for everything that reads untrusted bytes.

mod api;
mod demand;
mod report;
pub mod request;
mod splice;
mod tier;
mod usage;
mod usage_filter;

pub use api::{Api, WireFormat};
pub use demand::{CacheWrites, Demand, InputBound, Provider, TierChoice};
pub use figures::{Usage, UsageReport};
pub use tier::ServiceTier;
pub use usage::{UsageReader, of_whole};
pub use usage_filter::UsageFilter;
