//! What Berth promises, told as stories from outside: one binary, one module a noun.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on says where it stopped")]

mod access;
mod accounts;
mod activity;
mod alarms;
mod alerts;
mod calls;
mod certificates;
mod clock_jumps;
mod containers;
mod corrections;
mod crowds;
mod cycles;
mod deletion;
mod doctor;
mod domains;
mod edge;
mod engine_away;
mod first_light;
mod harness;
mod headers;
mod instances;
mod llm;
mod load;
mod lost_answers;
mod mailbox;
mod memory;
mod misbehaving;
mod nights;
mod pages;
mod passage;
mod ports;
mod programs;
mod quota;
mod rerating;
mod sagas;
mod sharing;
mod smuggling;
mod spend;
mod spend_of_all;
mod spending;
mod tidy;
mod unknown_models;
mod upgrades;
mod web;
