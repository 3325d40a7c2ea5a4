//! What every other crate stands on: time and randomness, ids, handles, secrets, errors, and the reading of settings.
//!
//! Nothing here does I/O beyond the clock, the random generator and the environment. The features `sea-orm` and `governor`
//! add the traits that those libraries ask for; the provisioner is built without either.

pub mod calendar;
pub mod clock;
#[cfg(feature = "sea-orm")]
mod database;
pub mod error;
pub mod handle;
pub mod ids;
pub mod process;
pub mod secrets;
pub mod settings;
