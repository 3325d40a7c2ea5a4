//! Berth: every person their own container, asleep when idle, awake in milliseconds, its AI calls metered.
//!
//! Doors (`web`, `edge`, `llm`, `cli`, `provisioner`) call rooms (`accounts`, `instances`, `quota`, `mailbox`, `alarms`, `sharing`, `domains`,
//! `own_keys`, `certificates`, `ops`), rooms stand on the ground (`containers`, `db`, `config`, `clock`, ..), and never the other way. ARCHITECTURE.md is the map.

pub mod accounts;
pub mod alarms;
pub mod app;
pub mod certificates;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod containers;
pub mod cookies;
pub mod db;
pub mod demo;
pub mod domains;
pub mod edge;
pub mod error;
pub mod handle;
pub mod hop;
pub mod hosts;
pub mod http;
pub mod http_server;
pub mod instances;
pub mod llm;
pub mod mailbox;
pub mod ops;
pub mod own_keys;
pub mod provisioner;
pub mod quota;
pub mod secrets;
pub mod sharing;
pub mod web;

/// What a request takes is often given back on another thread; glibc's own allocator makes threads wait for each other then.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
