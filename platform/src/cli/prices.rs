//! `berth prices ..`: what models cost.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Subcommand;

use super::{OPERATOR, control};
use crate::app::App;
use crate::quota::Changes;

#[derive(Subcommand)]
pub(super) enum Word {
    /// Every price table that is known, and which is in force.
    List,
    /// Take in a table in the form of LiteLLM's model_prices_and_context_window.json, and put it in force.
    Import { file: PathBuf },
    /// Put a table in force again: a version, or "built-in" for the one of this program.
    Use { version: String },
}

pub(super) async fn run(app: &App, word: Word) -> anyhow::Result<()> {
    match word {
        Word::List => {
            for table in app.quota.price_tables().await? {
                let mark = if table.is_in_force { "in force" } else { "" };
                println!("{:<14} {:<9} {}", table.version, mark, table.source);
            }
            return Ok(());
        }
        Word::Import { file } => {
            let table = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let source = file.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let (version, changes) = app.quota.import_prices(&table, &source, OPERATOR).await?;
            let Changes { models, new, changed, gone } = changes;
            println!("{version}: {models} models, {new} new, {changed} at another price, {gone} gone.");
        }
        Word::Use { version } => {
            let version = (version != "built-in").then_some(&*version);
            app.quota.use_prices(version, OPERATOR).await.context("berth prices list shows which there are")?;
        }
    }
    control::tell_of_prices(&app.config.control_socket()).await?;
    println!("In force for every call from now on.");
    Ok(())
}
