//! `berth prices ..`: what models cost.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;

use crate::app::App;
use crate::control_socket::{self, OPERATOR};
use crate::handle::Handle;
use crate::quota::dollars;
use crate::quota::ledger::{RepricingMode, RepricingOrder, RepricingResult};
use crate::quota::prices::PriceChanges;

#[derive(Subcommand)]
pub(super) enum Word {
    /// Every price table that is known, and which is in force.
    List,
    /// Take in a table in the form of LiteLLM's model_prices_and_context_window.json, and put it in force.
    Import { file: PathBuf },
    /// Put a table in force again: a version, or "built-in" for the one of this program.
    Use { version: String },
    /// Say what calls that are over would cost by another version, and with --yes correct their receipts so. What was
    /// given or taken by hand stays. Doing it again changes nothing more.
    Rerate {
        /// As list shows it.
        version: String,
        /// The first day, such as 2026-11-01.
        #[arg(long)]
        since: Option<String>,
        /// The last day.
        #[arg(long)]
        until: Option<String>,
        /// Of one account alone.
        #[arg(long)]
        handle: Option<String>,
        /// Do it.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(app: &App, word: Word) -> anyhow::Result<()> {
    match word {
        Word::List => {
            for table in app.quota.prices.list().await? {
                let mark = if table.is_in_force { "in force" } else { "" };
                println!("{:<14} {:<9} {}", table.version, mark, table.source);
            }
            return Ok(());
        }
        Word::Import { file } => {
            let table = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let source = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let (version, changes) = app.quota.prices.import(&table, &source, OPERATOR).await?;
            let PriceChanges { models, new, changed, gone } = changes;
            println!("{version}: {models} models, {new} new, {changed} at another price, {gone} gone.");
        }
        Word::Rerate { version, since, until, handle, yes } => {
            let account = match handle {
                None => None,
                Some(handle) => Some(app.accounts.account(&Handle::parse(&handle)?).await?.id),
            };
            let order = RepricingOrder { version, since, until, account };
            return if yes { rerate(app, order).await } else { preview(app, order).await };
        }
        Word::Use { version } => {
            let version = (version != "built-in").then_some(&*version);
            app.quota.prices.activate(version, OPERATOR).await.context("berth prices list shows which there are")?;
        }
    }
    control_socket::tell_of_prices(&app.config.control_socket()).await?;
    println!("In force for every call from now on.");
    Ok(())
}

async fn preview(app: &App, order: RepricingOrder) -> anyhow::Result<()> {
    let found = app.quota.ledger.reprice(order, RepricingMode::DryRun).await?.all().await?;
    show(app, &found).await?;
    if found.changed > 0 {
        println!("Nothing was changed yet: say it again with --yes.");
    }
    Ok(())
}

async fn rerate(app: &App, order: RepricingOrder) -> anyhow::Result<()> {
    let done = control_socket::rerate(&app.config.control_socket(), order).await?;
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
    println!("Looked at: {}.", found.looked_at);
    if found.without_price > 0 {
        println!("Left as they are, without a price for their model, tier or search in it: {}.", found.without_price);
    }
    if found.not_counted > 0 {
        println!("Left as they are, charged by what was held because nobody counted: {}.", found.not_counted);
    }
    Ok(())
}
