//! The operator's words. Each calls the same use-cases as the pages, and prints.

mod instance_settings;
mod instances;
mod prices;
mod quota;
mod receipts;
mod spend;
mod upgrades;
mod users;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use berth_ground::process;
use clap::{Parser, Subcommand};

use crate::app::App;
use crate::clock::Clock;
use crate::config::{Config, LogConfig, demo_listen_from_env};
use crate::containers::remote::RemoteHost;
use crate::db;
use crate::modules::Verdict;
use crate::{demo, serve};

/// Every person their own container, asleep when idle, awake in milliseconds, its AI calls metered.
#[derive(Parser)]
#[command(name = "berth", version)]
struct CommandLine {
    #[command(subcommand)]
    command: BerthCommand,
}

#[derive(Subcommand)]
enum BerthCommand {
    /// Run the platform: pages, edge and quota proxy. Settings come from the environment; see .env.example.
    Serve,
    /// Run the demo model, which answers AI calls when no provider key is set.
    DemoUpstream,
    /// Print the one-time link that makes the first account, the admin.
    SetupLink,
    /// Examine everything Berth stands on. Changes nothing.
    Doctor,
    /// Accounts.
    #[command(subcommand)]
    User(users::UserCommand),
    /// Instances.
    #[command(subcommand)]
    Instance(instances::InstanceCommand),
    /// What accounts may do with AI calls.
    #[command(subcommand)]
    Quota(quota::QuotaCommand),
    /// What models cost.
    #[command(subcommand)]
    Prices(prices::PricesCommand),
    /// What was charged for AI calls.
    #[command(subcommand)]
    Receipts(receipts::ReceiptsCommand),
}

/// Runs the word on the command line. 0: done. 1: it failed, with a sentence on standard error. 2: not a word of ours.
#[must_use]
pub fn main() -> ExitCode {
    let command = CommandLine::parse().command;
    let done = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the runtime")
        .and_then(|runtime| runtime.block_on(run(command)));
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: BerthCommand) -> anyhow::Result<ExitCode> {
    match command {
        BerthCommand::Serve => {
            let config = Config::from_env()?;
            start_log(&config.log)?;
            serve::run(config, process::end_of_work()?).await?;
        }
        BerthCommand::DemoUpstream => {
            let (listen, log) = (demo_listen_from_env()?, LogConfig::from_env()?);
            start_log(&log)?;
            demo::serve(listen, process::end_of_work()?).await?;
        }
        BerthCommand::SetupLink => {
            let app = open().await?;
            let token = app.accounts.setup_link().await?;
            println!("{}/sign-up?set-up={}", app.config.hosts.app_origin(), token.reveal());
        }
        BerthCommand::Doctor => return doctor().await,
        BerthCommand::User(command) => users::run(&open().await?, command).await?,
        BerthCommand::Instance(command) => instances::run(&open().await?, command).await?,
        BerthCommand::Quota(command) => quota::run(&open().await?, command).await?,
        BerthCommand::Prices(command) => prices::run(&open().await?, command).await?,
        BerthCommand::Receipts(command) => return receipts::run(&open().await?, command).await,
    }
    Ok(ExitCode::SUCCESS)
}

/// The parts, for a word that looks or writes a wish and leaves the doing to the running platform.
async fn open() -> anyhow::Result<App> {
    let config = Config::from_env()?;
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    App::open(config, Clock::system(), host).await
}

async fn doctor() -> anyhow::Result<ExitCode> {
    let config = Config::from_env()?;
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    let findings = App::examine(&config, Clock::system(), host).await;
    for finding in &findings {
        let mark = match finding.verdict {
            Verdict::Fine => "ok  ",
            Verdict::Warning => "warn",
            Verdict::Broken => "FAIL",
        };
        println!("{mark}  {:<14} {}", finding.subject, finding.sentence);
    }
    let broken = findings.iter().any(|finding| finding.verdict == Verdict::Broken);
    Ok(if broken { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn start_log(config: &LogConfig) -> anyhow::Result<()> {
    // The scheduler and the migrations log their progress at start; a log filter that names them turns that on.
    process::start_log(config, &format!("tokio_cron_scheduler=warn,{},", db::QUIET_LOG))
}
