//! Provider wire formats: bounds the cost of an API call from its request body, and reads its token usage from the
//! response.
//!
//! The crate is pure: bytes in, figures out, without I/O or async. Request bodies come from tenants and response bodies
//! from servers on the internet, so everything here must survive any input; `fuzz/` has a target for each reader.

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
