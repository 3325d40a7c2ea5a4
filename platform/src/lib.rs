//! Berth: every person their own container, asleep when idle, awake in milliseconds, its AI calls metered.
//!
//! HTTP layers (`web`, `edge`, `llm`, `instance_api`) call modules (`accounts`, `instances`, `quota`, `webhooks`, ..),
//! modules stand on the crates below `platform/crates`, and imports never run the other way. `serve` and `app` put it
//! together. ARCHITECTURE.md is the map.

pub mod accounts;
pub mod alarms;
pub mod app;
pub mod certificates;
pub mod cli;
pub mod config;
pub mod control_socket;
pub mod db;
pub mod domains;
pub mod edge;
pub mod http;
pub mod instance_api;
pub mod instances;
pub mod llm;
pub mod modules;
pub mod ops;
pub mod own_keys;
pub mod quota;
pub mod rate_limit;
pub mod serve;
pub mod sharing;
pub mod web;
pub mod webhooks;

pub use berth_containers as containers;
pub use berth_demo as demo;
pub use berth_ground::{clock, error, handle, secrets};
pub use berth_net::{cookies, hop_by_hop, hosts, peer, server};

/// What a request takes is often given back on another thread; glibc's own allocator makes threads wait for each other
/// then.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
