//! Provider wire formats: computes an upper bound of an API call's cost from its request body, and parses its token
//! usage from the response.
//!
//! The crate is pure: bytes in, figures out, without I/O or async. Request bodies come from tenants and response bodies
//! from servers on the internet, so every parser must survive any input; `fuzz/` has a target for each.

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
pub use report::{Usage, UsageReport};
pub use tier::ServiceTier;
pub use usage::{UsageReader, UsageReading, usage_of_response};
pub use usage_filter::UsageFilter;
