//! The journal: a write-ahead log of holds, settlements and corrections.
//!
//! The intent of a call is in the file before its first byte goes to a provider, and its settlement as soon as it is
//! known. Each is one write to the operating system of a few microseconds, and survives the death of this process.
//! fdatasync follows within milliseconds; a power cut may lose those. The ledger copies entries to the database and
//! then deletes the file. A line is a digest and an entry as JSON, so that a torn line is recognised.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tokio::sync::Notify;

use super::entries::Correction;
use super::intent::{Intent, Settlement};
use crate::db::HoldId;
use berth_providers::UsageReport;

/// The least time between two calls of fdatasync.
const SYNC_EVERY: Duration = Duration::from_millis(5);
/// Digits of a line's digest.
const DIGEST_DIGITS: usize = 16;
/// The capacity in bytes that suffices for most lines.
const USUAL_LINE: usize = 1024;

/// One line of the journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum JournalRecord<'a> {
    Held(Cow<'a, Intent>),
    /// The usage seen so far of a long answer; recovery settles by it when no settlement follows.
    Seen(HoldId, UsageReport),
    Settled(Cow<'a, Settlement>),
    Corrected(Cow<'a, Correction>),
}

/// The open journal. One process at a time has it.
pub struct Journal {
    folder: PathBuf,
    state: Mutex<JournalFile>,
    dirty: Arc<Notify>,
    /// The file lock that keeps other processes out. The kernel frees it when this process ends, however it ends.
    _lock: File,
}

struct JournalFile {
    file: Arc<File>,
    bytes: u64,
    /// Lines of intents without a settlement, which are copied when a new file is begun.
    open: HashMap<HoldId, Vec<u8>>,
}

impl Journal {
    /// Opens the journal in `folder`, and returns the records that an earlier process left in it, the oldest first.
    ///
    /// # Errors
    /// When another process has it open, or on an I/O error.
    pub fn open(folder: &Path) -> anyhow::Result<(Self, Vec<JournalRecord<'static>>)> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let lock = OpenOptions::new().create(true).append(true).open(folder.join("lock"))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .with_context(|| format!("another platform has the books in {} open: stop it first", folder.display()))?;
        let mut left = read(&folder.join("journal.old"))?;
        left.extend(read(&folder.join("journal"))?);
        let file = OpenOptions::new().create(true).append(true).open(folder.join("journal"))?;
        let bytes = file.metadata()?.len();
        let state = JournalFile { file: Arc::new(file), bytes, open: HashMap::new() };
        let journal = Self { folder: folder.to_owned(), state: Mutex::new(state), dirty: Arc::default(), _lock: lock };
        Ok((journal, left))
    }

    /// Writes an intent. When this returns, the intent outlives the process.
    ///
    /// # Errors
    /// On an I/O error; nothing was written then.
    pub fn hold(&self, intent: &Intent) -> io::Result<()> {
        let line = line(&JournalRecord::Held(Cow::Borrowed(intent)));
        let mut state = self.state();
        state.append(&line)?;
        state.open.insert(intent.id, line);
        drop(state);
        self.dirty.notify_one();
        Ok(())
    }

    /// Writes the usage seen so far of a long answer.
    ///
    /// # Errors
    /// On an I/O error; recovery then knows less.
    pub fn saw(&self, id: HoldId, seen: UsageReport) -> io::Result<()> {
        self.state().append(&line(&JournalRecord::Seen(id, seen)))
    }

    /// Writes a settlement and hands it over to the ledger, in this order and as one step: when a new file is begun,
    /// everything in the old one has been handed over.
    ///
    /// # Errors
    /// On an I/O error. The settlement is handed over all the same.
    pub fn settle(&self, settlement: Settlement, hand_over: impl FnOnce(Settlement)) -> io::Result<()> {
        let line = line(&JournalRecord::Settled(Cow::Borrowed(&settlement)));
        let mut state = self.state();
        let written = state.append(&line);
        state.open.remove(&settlement.id);
        // Under the lock, as is the rotation: an entry of the old file is then always handed over before the rotation.
        hand_over(settlement);
        drop(state);
        self.dirty.notify_one();
        written
    }

    /// Writes a correction and hands it over to the ledger, as one step.
    ///
    /// # Errors
    /// On an I/O error; there is no correction then.
    pub fn correct(&self, correction: &Correction, hand_over: impl FnOnce()) -> io::Result<()> {
        let line = line(&JournalRecord::Corrected(Cow::Borrowed(correction)));
        let mut state = self.state();
        state.append(&line)?;
        hand_over();
        drop(state);
        self.dirty.notify_one();
        Ok(())
    }

    /// The size of the file in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.state().bytes
    }

    /// Rotates the journal: begins a new file with the intents that are still open. The caller then writes every
    /// earlier settlement to the database and calls [`Journal::forget_old`].
    ///
    /// # Errors
    /// On an I/O error; the old file stays in use then.
    pub fn begin_new(&self) -> io::Result<()> {
        let (fresh, current, old) =
            (self.folder.join("journal.new"), self.folder.join("journal"), self.folder.join("journal.old"));
        let mut state = self.state();
        let mut file = OpenOptions::new().create(true).truncate(true).write(true).open(&fresh)?;
        let lines = state.open.values().map(Vec::as_slice).collect::<Vec<_>>().concat();
        file.write_all(&lines)?;
        file.sync_data()?;
        // A kill between the two renames leaves only the old file, which has everything, and the next start reads it.
        std::fs::rename(&current, old)?;
        std::fs::rename(fresh, &current)?;
        state.file = Arc::new(OpenOptions::new().append(true).open(current)?);
        state.bytes = lines.len() as u64;
        Ok(())
    }

    /// Deletes the old file, once the new file and the database have all of it.
    ///
    /// # Errors
    /// On an I/O error. The next start reads the old file again, and skips the receipts that are in the database.
    pub fn forget_old(&self) -> io::Result<()> {
        match std::fs::remove_file(self.folder.join("journal.old")) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Calls fdatasync after writes, at most once in each `SYNC_EVERY`, for as long as the journal lives.
    pub fn keep_on_disk(journal: &Arc<Self>) -> impl Future<Output = ()> + Send + use<> {
        let (dirty, journal) = (Arc::clone(&journal.dirty), Arc::downgrade(journal));
        async move {
            loop {
                dirty.notified().await;
                let Some(file) = journal.upgrade().map(|journal| Arc::clone(&journal.state().file)) else { return };
                #[expect(clippy::disallowed_methods, reason = "one at a time, for as long as a disk takes")]
                let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
                if let Ok(Err(error)) = synced {
                    tracing::error!(%error, "the disk does not keep the quota journal");
                }
                tokio::time::sleep(SYNC_EVERY).await;
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, JournalFile> {
        // A poisoned lock is used on: what can fail comes before any change, so a panic leaves nothing half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.dirty.notify_one();
    }
}

impl JournalFile {
    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if let Err(error) = (&*self.file).write_all(line) {
            // Reading stops at a torn line, so a torn line would hide every later one.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }
}

fn line(entry: &JournalRecord<'_>) -> Vec<u8> {
    let mut line = Vec::with_capacity(USUAL_LINE);
    // A placeholder for the digest.
    line.resize(DIGEST_DIGITS, b'0');
    line.push(b' ');
    serde_json::to_writer(&mut line, entry).expect("an entry is always JSON");
    let digest = digest(&line[DIGEST_DIGITS + 1..]);
    line[..DIGEST_DIGITS].copy_from_slice(digest.as_bytes());
    line.push(b'\n');
    line
}

fn digest(bytes: &[u8]) -> String {
    hex::encode(&Sha256::digest(bytes)[..DIGEST_DIGITS / 2])
}

/// The whole lines of a file. A torn line, which a power cut left, and everything after it are ignored.
fn read(path: &Path) -> anyhow::Result<Vec<JournalRecord<'static>>> {
    let mut bytes = Vec::new();
    match File::open(path) {
        Ok(mut file) => file.read_to_end(&mut bytes)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    };
    let mut entries = Vec::new();
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let Some(entry) = parse(line) else {
            tracing::warn!(file = %path.display(), "the quota journal ends in a line that was cut short");
            break;
        };
        entries.push(entry);
    }
    Ok(entries)
}

fn parse(line: &[u8]) -> Option<JournalRecord<'static>> {
    let line = std::str::from_utf8(line).ok()?.strip_suffix('\n')?;
    let (sum, json) = line.split_once(' ')?;
    (sum == digest(json.as_bytes())).then(|| serde_json::from_str(json).ok())?
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
