//! What Berth promises, told as stories from outside: one binary, one module a noun.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on says where it stopped")]

mod access;
mod accounts;
mod activity;
mod calls;
mod containers;
mod deletion;
mod edge;
mod first_light;
mod harness;
mod instances;
mod llm;
mod memory;
mod pages;
mod quota;
mod tidy;
mod upgrades;
mod web;
