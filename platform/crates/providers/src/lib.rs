//! The wire formats of model providers: what a call can cost, read from its body, and what it used, read from its answer.
//!
//! No I/O and no async: bytes in, figures out. `fuzz/` has a target for everything that reads untrusted bytes.

mod api;
mod demand;
mod figures;
mod hide_usage;
pub mod request;
mod splice;
mod tier;
mod usage;

pub use api::{Api, Speaks};
pub use demand::{CacheWrites, Demand, InputBound, Provider, Service};
pub use figures::{Seen, Usage};
pub use hide_usage::HideUsage;
pub use tier::Tier;
pub use usage::{StreamReader, of_whole};
