//! Load that lasts, crowds, and kills under load.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod crowds;
mod sustained;
mod usage_kill9;
