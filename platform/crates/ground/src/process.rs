//! What each of our processes does at its start: begin its log, and listen for the signals that end it.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::settings::LogConfig;

/// Begins the log on standard error. `quiet` has directives that come before the operator's filter, such as
/// `sea_orm_migration=warn,`, for libraries that say more than anybody wants.
///
/// # Errors
/// When `BERTH_LOG` is not a filter.
pub fn start_log(config: &LogConfig, quiet: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{quiet}{}", config.filter))
        .context("BERTH_LOG is not a filter such as info,berth::edge=debug")?;
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    if config.json {
        log.json().flatten_event(true).init()
    } else {
        log.init()
    }
    Ok(())
}

/// Cancelled by SIGTERM or Ctrl-C.
///
/// # Errors
/// When the signals cannot be listened for.
///
/// # Panics
/// Outside a runtime.
pub fn end_of_work() -> anyhow::Result<CancellationToken> {
    let end = CancellationToken::new();
    let ended = end.clone();
    let mut term = signal(SignalKind::terminate())?;
    tokio::spawn(async move {
        tokio::select! {
            _ = term.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        ended.cancel();
    });
    Ok(end)
}
