//! A whole platform on fake containers, behind a real listener: what people, programs and attackers see of it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod activity;
mod alarms;
mod certificates;
mod cli;
mod domains;
mod edge;
mod instances;
mod llm;
mod own_keys;
mod programs;
mod quota;
mod security;
mod sharing;
mod unreadable_rows;
mod web;
mod webhooks;
