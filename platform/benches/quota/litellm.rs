//! LiteLLM's proxy, set up to pass calls on and do nothing else: no keys, no limits, no database, no telemetry, no log
//! of each call. It can enforce budgets only with PostgreSQL, through a program that it downloads.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use berth_ground::clock::Clock;

use super::process::{Process, free_port};
use super::questions::{MODEL, STREAMING_MODEL};

const WORKERS: usize = 2;
/// Until all of them have begun: each reads in a good part of what there is for Python.
const PATIENCE: Duration = Duration::from_secs(90);
/// What each says then.
const BEGUN: &str = "Application startup complete";

/// As many workers as the machine has processors here.
pub fn start(folder: &Path, upstream: u16) -> anyhow::Result<(Process, SocketAddr)> {
    let (config, log_config) = (folder.join("litellm.yaml"), folder.join("litellm-log.json"));
    // JSON is YAML. The key is never checked.
    let model = |name: &str, provider: &str, base: String| {
        let params = serde_json::json!({ "model": format!("{provider}/{name}"), "api_base": base, "api_key": "sk-x" });
        serde_json::json!({ "model_name": name, "litellm_params": params })
    };
    let models = [
        model(MODEL, "openai", format!("http://127.0.0.1:{upstream}/v1")),
        model(STREAMING_MODEL, "anthropic", format!("http://127.0.0.1:{upstream}")),
    ];
    let settings = serde_json::json!({ "telemetry": false, "num_retries": 0 });
    std::fs::write(&config, serde_json::json!({ "model_list": models, "litellm_settings": settings }).to_string())?;
    std::fs::write(&log_config, LOG_CONFIG)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
    let log = folder.join("litellm.log");
    let process = Process::start("LiteLLM", &command(&config, &log_config, address.port())?, &log)?;
    let began = Clock::system().monotonic();
    loop {
        let said = std::fs::read_to_string(&log)?;
        if said.matches(BEGUN).count() == WORKERS {
            return Ok((process, address));
        }
        ensure!(began.elapsed() < PATIENCE, "LiteLLM has not begun after {} seconds: {said}", PATIENCE.as_secs());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Logs its start and its errors only: a line for each call would be measured as well.
const LOG_CONFIG: &str = r#"{
  "version": 1,
  "disable_existing_loggers": false,
  "handlers": { "all": { "class": "logging.StreamHandler" } },
  "loggers": {
    "uvicorn": { "handlers": ["all"], "level": "INFO", "propagate": false },
    "uvicorn.access": { "handlers": ["all"], "level": "WARNING", "propagate": false }
  }
}"#;

#[expect(clippy::disallowed_methods, reason = "scripts/bench, not the operator, sets this variable")]
fn command(config: &Path, log_config: &Path, port: u16) -> anyhow::Result<Command> {
    let program = std::env::var("BERTH_BENCH_LITELLM").map(PathBuf::from);
    let program = program.context("run this by scripts/bench quota, which installs LiteLLM")?;
    ensure!(program.exists(), "there is no {}: scripts/bench quota installs LiteLLM", program.display());
    // Its output has no reader: a full pipe would block it in the end.
    let mut litellm = Command::new("sh");
    litellm.args(["-c", "exec \"$0\" \"$@\" >&2"]).arg(program).arg("--config").arg(config);
    litellm.args(["--host", "127.0.0.1", "--port", &port.to_string(), "--num_workers", &WORKERS.to_string()]);
    // Otherwise those that take more than five seconds to begin are ended and begun again, without end.
    litellm.args(["--timeout_worker_healthcheck", &PATIENCE.as_secs().to_string()]);
    litellm.args(["--telemetry", "False", "--log_config"]).arg(log_config);
    litellm.env("LITELLM_LOCAL_MODEL_COST_MAP", "True").env("LITELLM_MODE", "PRODUCTION").env("LITELLM_LOG", "ERROR");
    litellm.env("NO_PROXY", "*").env("DISABLE_ADMIN_UI", "True");
    litellm.env("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true");
    Ok(litellm)
}
