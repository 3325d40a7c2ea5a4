//! `berth prices ..`: the price tables of AI models, and repricing of past calls.

use std::path::PathBuf;

use anyhow::Context as _;
use berth_ground::handle::Handle;
use clap::Subcommand;

use crate::app::App;
use crate::control_socket::{self, OPERATOR};
use crate::quota::dollars;
use crate::quota::ledger::{RepricingMode, RepricingOrder, RepricingResult};
use crate::quota::prices::PriceChanges;

#[derive(Subcommand)]
pub(super) enum PricesCommand {
    /// List all price tables, and show which is active.
    List,
    /// Import a price table, and activate it.
    Import {
        /// JSON in the format of LiteLLM's model_prices_and_context_window.json.
        file: PathBuf,
    },
    /// Activate an imported price table.
    Activate {
        /// A version from `list`, or "built-in" for the table of this program.
        version: String,
    },
    /// Compute the cost of past calls by another price table, and with --yes correct their receipts.
    ///
    /// Corrections by hand stay. Repeating the command changes nothing more.
    Reprice {
        /// A version from `list`.
        version: String,
        /// The first day, such as 2026-11-01.
        #[arg(long, value_name = "DAY")]
        since: Option<String>,
        /// The last day, inclusive.
        #[arg(long, value_name = "DAY")]
        until: Option<String>,
        /// Only the calls of this account.
        #[arg(long)]
        handle: Option<String>,
        /// Correct the receipts. Without this option, the command only prints the differences.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(app: &App, command: PricesCommand) -> anyhow::Result<()> {
    match command {
        PricesCommand::List => {
            for table in app.quota.prices.list().await? {
                let mark = if table.is_in_force { "active" } else { "" };
                println!("{:<14} {:<9} {}", table.version, mark, table.source);
            }
            return Ok(());
        }
        PricesCommand::Import { file } => {
            let table = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let source = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let (version, changes) = app.quota.prices.import(&table, &source, OPERATOR).await?;
            let PriceChanges { models, new, changed, gone } = changes;
            println!("{version}: {models} models; {new} added, {changed} with a different price, {gone} removed.");
        }
        PricesCommand::Reprice { version, since, until, handle, yes } => {
            let account = match handle {
                None => None,
                Some(handle) => Some(app.accounts.account(&Handle::parse(&handle)?).await?.id),
            };
            let order = RepricingOrder { version, since, until, account };
            return if yes { reprice(app, order).await } else { preview(app, order).await };
        }
        PricesCommand::Activate { version } => {
            let version = (version != "built-in").then_some(&*version);
            app.quota.prices.activate(version, OPERATOR).await.context("list the versions: berth prices list")?;
        }
    }
    control_socket::tell_of_prices(&app.config.control_socket()).await?;
    println!("Active for every call from now on.");
    Ok(())
}

async fn preview(app: &App, order: RepricingOrder) -> anyhow::Result<()> {
    let found = app.quota.ledger.reprice(order, RepricingMode::DryRun).await?.all().await?;
    show(app, &found).await?;
    if found.changed > 0 {
        println!("Nothing is changed yet. To correct the receipts, repeat the command with --yes.");
    }
    Ok(())
}

async fn reprice(app: &App, order: RepricingOrder) -> anyhow::Result<()> {
    let done = control_socket::reprice(&app.config.control_socket(), order).await?;
    show(app, &done).await?;
    println!("Receipts corrected: {}.", done.changed);
    Ok(())
}

async fn show(app: &App, found: &RepricingResult) -> anyhow::Result<()> {
    let known = app.accounts.accounts().await?;
    println!("{:<40} {:>10} {:>18}", "ACCOUNT", "RECEIPTS", "DIFFERENCE");
    for one in &found.accounts {
        let handle = known.iter().find(|view| view.id == one.account).map(|view| view.handle.to_string());
        let name = handle.unwrap_or_else(|| one.account.to_string());
        println!("{name:<40} {:>10} {:>18}", one.receipts, dollars(one.nanodollars));
    }
    println!("{:<40} {:>10} {:>18}", "all", found.changed, dollars(found.nanodollars));
    println!("Receipts examined: {}.", found.looked_at);
    if found.without_price > 0 {
        println!(
            "Unchanged, because that table lacks a price for their model, tier or web search: {}.",
            found.without_price
        );
    }
    if found.not_counted > 0 {
        println!("Unchanged, because the provider reported no usage and the hold was charged: {}.", found.not_counted);
    }
    Ok(())
}
