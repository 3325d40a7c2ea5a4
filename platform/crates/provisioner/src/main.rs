//! `berth-provisioner`: the privileged process. Without arguments it serves its socket until SIGTERM.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use berth_containers::config::ContainerConfig;
use berth_ground::clock::Clock;
use berth_ground::process;
use berth_ground::settings::LogConfig;

const USAGE: &str = "berth-provisioner takes no arguments: its settings come from the environment, see .env.example";

/// Exit status 0: done. 1: failed, with a sentence on standard error. 2: called with unknown arguments.
fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    // Two forms, of which one is used only by this program itself: an argument parser would be its largest dependency.
    let done = match &arguments[..] {
        [] => serve(),
        [verb, file_flag, file, bytes_flag, bytes]
            if verb == "reclaim" && file_flag == "--file" && bytes_flag == "--bytes" =>
        {
            reclaim(Path::new(file), bytes)
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn serve() -> anyhow::Result<()> {
    let (config, log) = (ContainerConfig::from_env()?, LogConfig::from_env()?);
    process::start_log(&log, "")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting the runtime")?;
    runtime.block_on(async {
        let end = process::end_of_work()?;
        berth_provisioner::serve(config, Clock::system(), end.cancelled_owned()).await
    })
}

/// The hidden verb with which the provisioner runs itself as a child: see [`berth_provisioner::reclaim`].
fn reclaim(file: &Path, bytes: &OsString) -> anyhow::Result<()> {
    let bytes = bytes.to_str().and_then(|bytes| bytes.parse().ok()).context("--bytes is not a whole number")?;
    berth_provisioner::reclaim(file, bytes).context("handing memory back")
}
