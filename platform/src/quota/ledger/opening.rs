//! Opening the ledger for calls: entries that a crash left in the journal become receipts first.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use anyhow::Context as _;
use berth_ground::secrets::InstallationKeys;
use tokio::sync::{Mutex, Notify, mpsc};

use super::chain::ReceiptSigner;
use super::journal::Journal;
use super::open::{Ledger, OpenLedger};
use super::pending::PendingCorrections;
use super::recovery;
use super::store;
use super::writer::LedgerWriter;
use crate::config::Config;
use crate::quota::admission::Admission;

impl Ledger {
    /// The closed ledger. Reads and writes nothing.
    pub(in crate::quota) fn new(admission: &Arc<Admission>, keys: &InstallationKeys, config: &Config) -> Self {
        Self {
            db: admission.db.clone(),
            clock: admission.clock.clone(),
            prices: Arc::clone(&admission.prices),
            admission: Arc::clone(admission),
            signer: Arc::new(ReceiptSigner::new(keys)),
            folder: config.data_dir.join("quota"),
            receipts_for: config.receipts_for,
            open: OnceLock::new(),
        }
    }

    /// Opens the ledger for calls, and settles what a crash left in the journal, so that no hold from before the crash
    /// stays open and causes refusals. Another platform that has the ledger of the same database open admits no calls
    /// any more.
    ///
    /// # Errors
    /// When another platform of this machine has the journal open.
    pub(in crate::quota) async fn begin(&self) -> anyhow::Result<()> {
        let Self { db, clock, prices, admission, signer, folder, .. } = self;
        // The file lock first: a second platform on this machine fails here, before it raises the epoch, which would
        // shut the first one out.
        let (journal, left) = Journal::open(folder)?;
        prices.reload().await?;
        let tx = db.begin().await?;
        let epoch = store::open_epoch(&tx).await?;
        tx.commit().await?;
        let (journal, closed, hurry) = (Arc::new(journal), Arc::<AtomicBool>::default(), Arc::<Notify>::default());
        let pending = Arc::<PendingCorrections>::default();
        let mut writer = LedgerWriter {
            db: db.clone(),
            signer: Arc::clone(signer),
            journal: Arc::clone(&journal),
            epoch,
            closed: Arc::clone(&closed),
            hurry: Arc::clone(&hurry),
            pending: Arc::clone(&pending),
            heads: HashMap::new(),
        };
        let recovered = recovery::settle_all(prices, left, clock.now(), admission.usual_allowance()).await?;
        if recovered.orphans > 0 {
            tracing::warn!(calls = recovered.orphans, "calls were cut off by the last stop; charged as held");
        }
        // All in the database before the journal is begun anew, which keeps no settled entry.
        writer.carry_over_all(recovered.entries).await?;
        journal.begin_new().context("beginning the quota journal")?;
        journal.forget_old().context("forgetting the old quota journal")?;
        let (sender, messages) = mpsc::unbounded_channel();
        tokio::spawn(Journal::keep_on_disk(&journal));
        tokio::spawn(writer.keep(messages));
        let (clock, corrections) = (clock.clone(), Mutex::default());
        let open = OpenLedger { clock, journal, writer: sender, hurry, closed, pending, corrections };
        self.open.set(Arc::new(open)).map_err(|_| anyhow::anyhow!("the ledger is open already"))
    }
}
