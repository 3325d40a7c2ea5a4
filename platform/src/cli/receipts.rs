//! `berth receipts ..`: what was charged for AI calls, and whether it is as it was written.

use std::process::ExitCode;

use clap::Subcommand;

use crate::app::App;
use crate::handle::Handle;
use crate::quota::dollars;

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
    /// The public key with which receipts can be verified by anybody: Ed25519, hexadecimal.
    Key,
}

pub(super) async fn run(app: &App, word: Word) -> anyhow::Result<ExitCode> {
    match word {
        Word::Verify => {
            let verified = app.quota.verify().await?;
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
            for receipt in app.quota.receipts(account.id, most).await? {
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
        Word::Key => println!("{}", app.quota.receipt_key()),
    }
    Ok(ExitCode::SUCCESS)
}
