//! `berth receipts ..`: what was charged for AI calls, and whether it is as it was written.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Subcommand;

use super::quota::signed_dollars;
use crate::app::App;
use crate::control_socket::{self, CorrectionOrder};
use crate::db::HoldId;
use crate::handle::Handle;
use crate::quota::dollars;
use crate::quota::reports::{BilledAmounts, total_difference};

#[derive(Subcommand)]
pub(super) enum Word {
    /// Look at every receipt: unaltered, none missing, signed. Ends with 1 when one is not.
    Verify,
    /// The latest receipts of an account, the newest first.
    List {
        handle: String,
        /// How many.
        #[arg(long, default_value_t = 20)]
        most: u64,
    },
    /// One receipt, as it was written, and whether it still is. Ends with 1 when it is not.
    Show { handle: String, id: String },
    /// A provider's usage export (CSV or JSON with date, model and cost) beside what was booked, by day and model. Ends
    /// with 1 when the whole differs by more than 1 %.
    Compare { file: PathBuf },
    /// Give back a part of what a call cost, with a minus, or take more for it. The receipt stays; what differs becomes
    /// one of its own, on the same day.
    Correct {
        /// Its id, as list shows it.
        receipt: HoldId,
        /// US dollars, such as -0.25.
        #[arg(allow_hyphen_values = true, value_parser = signed_dollars)]
        dollars: i64,
        /// Kept with the receipt; the account's owner sees it.
        #[arg(long)]
        because: String,
    },
    /// The public key with which receipts can be verified by anybody: Ed25519, hexadecimal.
    Key,
}

pub(super) async fn run(app: &App, word: Word) -> anyhow::Result<ExitCode> {
    match word {
        Word::Verify => {
            let verified = app.quota.ledger.verify().await?;
            for sentence in &verified.wrong {
                println!("{sentence}");
            }
            let (receipts, accounts) = (verified.receipts, verified.accounts);
            println!("{receipts} receipts of {accounts} accounts: {} wrong", verified.wrong.len());
            return Ok(if verified.wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Word::List { handle, most } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            println!("{:<10} {:<24} {:>14} {:<9} {:<15} ID", "DAY", "MODEL", "AMOUNT", "BASIS", "OUTCOME");
            for receipt in app.quota.ledger.receipts(account.id, most).await? {
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
        Word::Show { handle, id } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            let proof = app.quota.ledger.receipt(account.id, id.parse().context("write a receipt's id")?).await?;
            println!("{}", serde_json::to_string_pretty(&proof.receipt)?);
            if let Some(wrong) = proof.wrong {
                eprintln!("{wrong}");
                return Ok(ExitCode::FAILURE);
            }
        }
        Word::Compare { file } => {
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
                    "They differ by more than 1 %: a price changed, calls were booked as held, or the key is used elsewhere."
                );
                return Ok(ExitCode::FAILURE);
            }
        }
        Word::Correct { receipt, dollars: nanodollars, because } => {
            let order = CorrectionOrder::Correct { receipt, nanodollars, because };
            let corrected = control_socket::correct(&app.config.control_socket(), &order).await?;
            println!("Corrected by {}, with receipt {}.", dollars(nanodollars), corrected.id);
            println!("The call cost {} in all now.", dollars(corrected.total_nanodollars));
        }
        Word::Key => println!("{}", app.quota.ledger.receipt_key()),
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
