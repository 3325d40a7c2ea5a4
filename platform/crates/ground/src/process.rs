//! Process start-up that all binaries share: logging, the limit on open files, and the signals that request a graceful
//! shutdown.

use std::io::IsTerminal as _;

use anyhow::Context as _;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

use crate::settings::LogConfig;

/// Starts logging to standard error. `quiet` are filter directives for libraries that log too much, such as
/// `sea_orm_migration=warn,`; the operator's own filter follows and may override them.
///
/// # Errors
/// When `BERTH_LOG` is not a valid filter.
pub fn start_log(config: &LogConfig, quiet: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{quiet}{}", config.filter))
        .context("BERTH_LOG is not a filter such as info,berth::edge=debug")?;
    // No escape sequences in files and pipes.
    let colours = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    if config.json {
        log.json().flatten_event(true).init()
    } else {
        log.init()
    }
    Ok(())
}

/// Raises the soft limit on open files to the hard one. The soft one is low by default, for programs that use
/// `select(2)`, and each connection takes a descriptor or two.
///
/// # Errors
/// When the kernel refuses, which some sandboxes make it do.
pub fn raise_open_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("raising the limit on open files")
}

/// A cancellation token that SIGTERM or Ctrl-C cancels.
///
/// # Errors
/// When no handler for the signals can be installed.
///
/// # Panics
/// Outside a runtime.
pub fn end_of_work() -> anyhow::Result<CancellationToken> {
    let end = CancellationToken::new();
    let ended = end.clone();
    // Installed here and not in the task: a signal right after this call must not kill the process.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_on_open_files_rises_to_the_hard_one() {
        let before = getrlimit(Resource::Nofile);
        // High enough for tests that run beside this one.
        setrlimit(Resource::Nofile, Rlimit { current: before.maximum.map(|hard| hard.min(1024)), ..before }).unwrap();
        raise_open_files().unwrap();
        assert_eq!(getrlimit(Resource::Nofile), Rlimit { current: before.maximum, ..before });
    }
}
