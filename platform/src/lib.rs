//! Berth, the platform: a multi-tenant container controller. Every account has one container, which sleeps when idle,
//! wakes in milliseconds, and has its AI calls metered.
//!
//! HTTP layers (`web`, `edge`, `llm`, `instance_api`) call modules (`accounts`, `instances`, `quota`, `webhooks`, ..);
//! modules depend on the crates below `platform/crates`, and imports never point the other way. `serve` and `app`
//! assemble them. ARCHITECTURE.md is the map.

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

/// mimalloc, because a request's memory is often freed on another thread than it was allocated on; glibc's allocator
/// contends on locks then.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
