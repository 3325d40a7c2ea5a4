//! `berth receipts ..`: the receipts of AI calls, their verification and correction.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use berth_ground::handle::Handle;
use berth_ground::money::Nanodollars;
use clap::Subcommand;

use super::quota::signed_dollars;
use crate::app::App;
use crate::control_socket::{self, CorrectionOrder};
use crate::db::HoldId;
use crate::quota::dollars;
use crate::quota::reports::{BilledAmounts, total_difference};

#[derive(Subcommand)]
pub(super) enum ReceiptsCommand {
    /// Verify the hash chain and signatures of all receipts.
    ///
    /// Exits with 1 if a receipt is altered, missing or unsigned.
    Verify,
    /// List the latest receipts of an account, newest first.
    List {
        handle: String,
        /// The number of receipts.
        #[arg(long, default_value_t = 20)]
        limit: u64,
    },
    /// Print one receipt as JSON.
    ///
    /// Exits with 1 if it was altered.
    Show {
        handle: String,
        /// A receipt's id from `list`.
        id: String,
    },
    /// Compare a provider's usage export with the receipts, by day and model.
    ///
    /// Exits with 1 if the totals differ by more than 1 %.
    Compare {
        /// CSV or JSON with date, model and cost.
        file: PathBuf,
    },
    /// Refund part of a call's cost with a negative amount, or charge more with a positive one.
    ///
    /// The receipt stays; the difference becomes a receipt of its own on the same day.
    Correct {
        /// The receipt's id from `list`.
        receipt: HoldId,
        /// US dollars, such as -0.25.
        #[arg(allow_hyphen_values = true, value_parser = signed_dollars)]
        dollars: Nanodollars,
        /// Kept with the receipt; the account's owner sees it.
        #[arg(long)]
        reason: String,
    },
    /// Print the public key that verifies the signatures of receipts: Ed25519, hexadecimal.
    Key,
}

pub(super) async fn run(app: &App, command: ReceiptsCommand) -> anyhow::Result<ExitCode> {
    match command {
        ReceiptsCommand::Verify => {
            let verified = app.quota.ledger.verify().await?;
            for sentence in &verified.wrong {
                println!("{sentence}");
            }
            let (receipts, accounts) = (verified.receipts, verified.accounts);
            println!("{receipts} receipts of {accounts} accounts verified: {} errors", verified.wrong.len());
            return Ok(if verified.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        ReceiptsCommand::List { handle, limit } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            println!("{:<10} {:<24} {:>14} {:<9} {:<15} ID", "DAY", "MODEL", "AMOUNT", "BASIS", "OUTCOME");
            for receipt in app.quota.ledger.receipts(account.id, limit).await? {
                println!(
                    "{:<10} {:<24} {:>14} {:<9} {:<15} {}",
                    receipt.day,
                    receipt.model,
                    dollars(receipt.amount_nanodollars),
                    receipt.basis,
                    receipt.outcome,
                    receipt.id
                );
            }
        }
        ReceiptsCommand::Show { handle, id } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            let proof = app
                .quota
                .ledger
                .receipt(account.id, id.parse().context("write a receipt's id, as berth receipts list shows it")?)
                .await?;
            println!("{}", serde_json::to_string_pretty(&proof.receipt)?);
            if let Some(wrong) = proof.wrong {
                eprintln!("{wrong}");
                return Ok(ExitCode::FAILURE);
            }
        }
        ReceiptsCommand::Compare { file } => {
            let export = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
            let drifts = app.quota.reports.compare_bill(&export).await?;
            println!(
                "{:<10} {:<28} {:>14} {:>14} {:>14} {:>10}",
                "DAY", "MODEL", "BILLED", "BOOKED", "MARGIN", "PERCENT"
            );
            for one in &drifts {
                print(&one.day.to_string(), &one.model, one.amounts);
            }
            let all = total_difference(&drifts);
            print("all", "", all);
            if all.is_wide() {
                eprintln!(
                    "The totals differ by more than 1 %. Likely causes: a price changed, calls were charged by their hold, or the provider key is also used elsewhere."
                );
                return Ok(ExitCode::FAILURE);
            }
        }
        ReceiptsCommand::Correct { receipt, dollars: nanodollars, reason } => {
            let order = CorrectionOrder::Correct { receipt, nanodollars, reason };
            let corrected = control_socket::correct(&app.config.control_socket(), &order).await?;
            println!("Corrected by {}, with receipt {}.", dollars(nanodollars), corrected.id);
            println!("The call now costs {} in total.", dollars(corrected.total_nanodollars));
        }
        ReceiptsCommand::Key => println!("{}", app.quota.ledger.receipt_key()),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(day: &str, model: &str, amounts: BilledAmounts) {
    let percent = amounts.percent().map_or_else(|| "not billed".into(), |percent| format!("{percent:.2} %"));
    println!(
        "{day:<10} {model:<28} {:>14} {:>14} {:>14} {percent:>10}{}",
        dollars(amounts.billed_nanodollars),
        dollars(amounts.booked_nanodollars),
        dollars(amounts.margin_nanodollars()),
        if amounts.is_wide() { "  !" } else { "" }
    );
}
