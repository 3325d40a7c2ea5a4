//! The base crate: clock and randomness, calendar, money, ids, handles, secrets, errors, configuration, process
//! start-up.
//!
//! Cargo features add what only the platform needs; the provisioner is built without them. `sea-orm` adds the traits
//! that this library requires of our types, `keys` the encryption at rest.

pub mod calendar;
pub mod clock;
#[cfg(feature = "sea-orm")]
mod database;
pub mod error;
pub mod handle;
pub mod ids;
pub mod money;
pub mod process;
pub mod secrets;
pub mod settings;
