//! The ledger: closed in a command of the operator, which only reads, and open in the platform that makes calls.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use berth_ground::clock::Clock;
use berth_ground::error::{Error, Result};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};

use super::chain::ReceiptSigner;
use super::entries::Correction;
use super::journal::Journal;
use super::pending::PendingCorrections;
use super::receipt::Receipt;
use super::writer::LedgerMessage;
use crate::db::Db;
use crate::quota::admission::{Admission, TRY_AGAIN, disk_refuses};
use crate::quota::prices::PriceTables;

/// How long a reader waits for calls that just ended to be in the database.
const SETTLING_PATIENCE: Duration = Duration::from_secs(2);

/// The journal, and the receipts that are made from it.
pub struct Ledger {
    pub(super) db: Db,
    pub(super) clock: Clock,
    pub(super) prices: Arc<PriceTables>,
    pub(super) admission: Arc<Admission>,
    pub(super) signer: Arc<ReceiptSigner>,
    /// The folder of the journal.
    pub(super) folder: PathBuf,
    /// How long a receipt is kept.
    pub(super) receipts_for: Duration,
    pub(super) open: OnceLock<Arc<OpenLedger>>,
}

/// The state of the ledger in the one process that makes calls.
pub struct OpenLedger {
    pub(super) clock: Clock,
    pub(super) journal: Arc<Journal>,
    pub(super) writer: mpsc::UnboundedSender<LedgerMessage>,
    /// Ends the writer's wait for a larger batch, because a reader waits.
    pub(super) hurry: Arc<Notify>,
    /// Another platform has opened the ledger since.
    pub(super) closed: Arc<AtomicBool>,
    pub(super) pending: Arc<PendingCorrections>,
    /// Held by the task that corrects: each correction goes by what the one before left in the database.
    pub(super) corrections: Mutex<()>,
}

impl Ledger {
    /// The open ledger.
    ///
    /// # Errors
    /// `Unavailable` in a process that makes no calls, or makes none any more.
    pub(in crate::quota) fn open(&self) -> Result<&Arc<OpenLedger>> {
        let unavailable = |message: &str| Error::Unavailable { message: message.into(), retry_after: TRY_AGAIN };
        let open = self.open.get().ok_or_else(|| unavailable("AI calls are not served yet. Try again soon."))?;
        if open.closed.load(Ordering::Relaxed) {
            return Err(unavailable("This server was replaced by another one. Try again soon."));
        }
        Ok(open)
    }

    /// Returns when every call that ended before now has its receipt in the database, or after two seconds.
    pub async fn settled(&self) {
        if let Some(open) = self.open.get() {
            open.settled().await;
        }
    }
}

impl OpenLedger {
    /// As of [`Ledger::settled`].
    pub(super) async fn settled(&self) {
        let (done, wait) = oneshot::channel();
        if self.writer.send(LedgerMessage::Flush(done)).is_ok() {
            self.hurry.notify_one();
            // On a timeout, or when the writer has ended, the reader sees sums that lag behind.
            let _ = tokio::time::timeout(SETTLING_PATIENCE, wait).await;
        }
    }

    /// Returns when every earlier correction is in the database.
    ///
    /// # Errors
    /// `Unavailable` when the database does not accept them at the moment.
    pub(super) async fn caught_up(&self) -> Result<()> {
        self.settled().await;
        if self.pending.is_none() {
            return Ok(());
        }
        let message = "The database does not take receipts just now, so nothing is corrected. Nothing was lost.".into();
        Err(Error::Unavailable { message, retry_after: TRY_AGAIN })
    }

    /// Writes a correction to the journal and applies it to the books of its account, as one step.
    ///
    /// # Errors
    /// `Unavailable` when the journal cannot be written; the books are as before then.
    pub(super) async fn accept(&self, admission: &Admission, receipt: Receipt) -> Result<()> {
        let books = admission.books(receipt.account_id).await?;
        let now = self.clock.now();
        let (month, day, nanodollars) = (receipt.period, receipt.day, receipt.amount_nanodollars);
        // No await from here on: a task that is cancelled has made either nothing or the whole correction. The books
        // stay locked until the journal has it, so that no call is admitted by a refund that is undone below.
        let mut books = books.lock();
        let allowance_nanodollars = books.correct(month, day, nanodollars, now);
        let day_allowance = books.limits().day_nanodollars;
        let correction = Correction { receipt: Box::new(receipt), allowance_nanodollars };
        let entry = correction.clone().into_entry(day_allowance);
        let written = self.journal.correct(&correction, || {
            self.pending.begun();
            if self.writer.send(LedgerMessage::Entry(Box::new(entry))).is_err() {
                tracing::warn!("a call was corrected after the ledger was closed; it is booked at the next start");
            }
        });
        written.map_err(|error| {
            books.correct(month, day, nanodollars.saturating_neg(), now);
            disk_refuses(&error)
        })
    }
}
