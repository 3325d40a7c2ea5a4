//! The ledger: a write-ahead log of holds and settlements, receipts in a hash chain, and their corrections.
//!
//! `hold` writes the intent of a call to the journal before the call is made, and its settlement after it. `writer`
//! turns settlements into receipts in the database; `recovery` does the same for those that a crash left in the
//! journal. A correction (`corrections`, `repricing`) is a receipt of its own.

mod budget_alert;
mod chain;
mod corrections;
mod entities;
mod entries;
mod hold;
mod intent;
mod journal;
mod open;
mod opening;
mod own_key_calls;
mod pending;
mod receipt;
mod receipts;
mod recovery;
mod repricing;
mod store;
mod thresholds;
mod writer;

pub use budget_alert::BudgetAlert;
pub use corrections::{CorrectionResult, LONGEST_REASON};
pub use hold::Hold;
pub use open::Ledger;
pub use receipt::Receipt;
pub use receipts::{ChainVerification, ReceiptProof};
pub use repricing::{AccountRepricing, Repricing, RepricingMode, RepricingOrder, RepricingResult};
pub(super) use store::disagreements;
