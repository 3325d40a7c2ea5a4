//! The operator's command line. Each command calls the same use-case as its page, and prints the result.

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
use berth_containers::remote::RemoteHost;
use berth_ground::clock::Clock;
use berth_ground::process;
use clap::{Parser, Subcommand};

use crate::app::App;
use crate::config::{Config, LogConfig, demo_listen_from_env};
use crate::db;
use crate::modules::Verdict;
use crate::{ops, serve};

/// Gives each person a container of their own that sleeps while idle, and meters its AI calls.
#[derive(Parser)]
#[command(name = "berth", version)]
struct CommandLine {
    #[command(subcommand)]
    command: BerthCommand,
}

#[derive(Subcommand)]
enum BerthCommand {
    /// Run the platform: web pages, edge proxy and AI quota proxy.
    ///
    /// Environment variables configure it; see .env.example.
    Serve,
    /// Run the demo model, which answers AI calls when no provider key is set.
    DemoUpstream,
    /// Print the one-time link for creating the first account, the admin.
    SetupLink,
    /// Check the installation: database, provisioner, host, images, listeners, ledger.
    ///
    /// Changes nothing. Exits with 1 if a check fails.
    Doctor,
    /// List, suspend, restore and delete accounts.
    #[command(subcommand)]
    User(users::UserCommand),
    /// List, wake, configure and upgrade instances, and put them to sleep.
    #[command(subcommand)]
    Instance(instances::InstanceCommand),
    /// Show and change the AI budgets, rate limits and credit of accounts.
    #[command(subcommand)]
    Quota(quota::QuotaCommand),
    /// Manage the price tables of AI models, and reprice past calls.
    #[command(subcommand)]
    Prices(prices::PricesCommand),
    /// List, verify and correct the receipts of AI calls.
    #[command(subcommand)]
    Receipts(receipts::ReceiptsCommand),
}

/// Runs the command. Exit status 0: success. 1: failure, with the reason on standard error. 2: wrong usage.
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
            if let Err(error) = process::raise_open_files() {
                tracing::warn!(error = %format!("{error:#}"), "many connections at once may run out of open files");
            }
            serve::run(config, process::end_of_work()?).await?;
        }
        BerthCommand::DemoUpstream => {
            let (listen, log) = (demo_listen_from_env()?, LogConfig::from_env()?);
            start_log(&log)?;
            berth_demo::serve(listen, process::end_of_work()?).await?;
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

/// Opens the modules for a command that reads, or that writes a wish for the running platform to carry out.
async fn open() -> anyhow::Result<App> {
    let config = Config::from_env()?;
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    let app = App::open(config, Clock::system(), host).await?;
    ops::refuse_other_secret(&app.db, &app.modules, &app.config.secret).await?;
    Ok(app)
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// The names of commands, and of arguments other than positional handles, that have no help text.
    fn without_help(command: &clap::Command) -> Vec<String> {
        let named = |argument: &&clap::Arg| argument.get_help().is_none() && argument.get_id() != "handle";
        let arguments = command.get_arguments().filter(named).map(|argument| argument.get_id().to_string());
        let below = command.get_subcommands().flat_map(without_help);
        let own = command.get_about().is_none().then(|| command.get_name().to_owned());
        own.into_iter().chain(arguments).chain(below).collect()
    }

    #[test]
    fn every_command_and_option_has_a_help_text() {
        let command = CommandLine::command();
        command.clone().debug_assert();
        assert_eq!(without_help(&command), Vec::<String>::new());
    }
}
