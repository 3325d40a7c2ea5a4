//! The mailbox of an instance: what others send to paths that its owner opened is kept until the program inside took it,
//! also while the instance sleeps. Alarms leave their letters here too. Carrying them is the edge's (`edge/postman.rs`).
//!
//! Who sends something to an open path is nobody in particular, so nothing of it is decided by the database: which paths
//! are open and how much is kept stand in memory. The platform is one process, and it alone writes here.

mod carrying;
mod letter;
mod limits;
mod memory;
mod registration;
mod rules;
mod store;

use std::net::IpAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
pub use carrying::{Delivery, Round};
pub use letter::{Letter, LetterId, LetterView, Parcel, State};
use limits::Limits;
use memory::Memory;
pub use rules::{
    LARGEST_BODY, LARGEST_HEAD, MOST_BYTES, MOST_LETTERS, MOST_PATHS, Outcome, TRIED_FOR, check_path, pause_after,
};
use serde::Serialize;
use tokio::sync::Notify;

use crate::clock::{Clock, Timestamp};
use crate::db::{Db, InstanceId, Tx};
use crate::error::{Error, Result};
use crate::secrets::Token;

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Mailbox(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    limits: Limits,
    memory: Mutex<Memory>,
    /// The number of the letter that came last.
    number: AtomicI64,
    /// One at a time opens a path, so that the limit holds on either database.
    opening: tokio::sync::Mutex<()>,
    /// Somebody's letter is to be carried now.
    due: Notify,
}

/// A path that its owner opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OpenPath {
    pub path: String,
    pub opened_at: Timestamp,
}

/// How much is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub waiting: u64,
    pub failed: u64,
    pub bytes: u64,
}

/// Why a letter was not taken.
#[derive(Debug)]
pub enum NotTaken {
    /// There is no room for it; the sentence says where.
    Full(&'static str),
    /// The database does not answer.
    Failed(Error),
}

/// An alarm's letter that was written; to be told to [`Mailbox::rang`] after the commit.
#[must_use = "what is in memory counts only what it was told"]
#[derive(Debug, Default)]
pub struct Rang {
    written: bool,
    forgotten: u64,
}

/// A letter that was written in somebody's transaction.
#[must_use = "without its carry, its room is given back"]
pub struct Posted {
    mailbox: Mailbox,
    instance: InstanceId,
    bytes: u64,
    is_kept: bool,
}

impl Posted {
    /// Has it carried; call it after the commit.
    pub fn carry(mut self) {
        self.is_kept = true;
        self.mailbox.look_at(self.instance, self.mailbox.0.clock.now());
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if !self.is_kept {
            self.mailbox.memory().give_back(self.instance, State::Waiting, self.bytes);
        }
    }
}

impl Mailbox {
    /// Reads which paths are open and what is kept.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(db: Db, clock: Clock) -> Result<Self> {
        let mut memory = Memory::default();
        for (instance, path, opened_at) in store::paths(&db).await? {
            memory.shelf(instance).paths.push(OpenPath { path, opened_at });
        }
        for (instance, state, kept, try_at) in store::summary(&db).await? {
            memory.read(instance, state, kept, try_at);
        }
        let number = store::last_number(&db).await?;
        Ok(Self(Arc::new(Inner {
            limits: Limits::new(clock.clone()),
            db,
            clock,
            memory: Mutex::new(memory),
            number: AtomicI64::new(number),
            opening: tokio::sync::Mutex::default(),
            due: Notify::new(),
        })))
    }

    /// Opens `path` for letters from anybody. With `unguessable`, an end is put to it that nobody can guess, for senders
    /// that do not sign what they send.
    ///
    /// # Errors
    /// `Invalid` for a path that cannot be one; `Conflict` when it is open already, or as many as may be are.
    pub async fn open_path(&self, instance: InstanceId, path: &str, ending: Ending) -> Result<OpenPath> {
        let path = match ending {
            Ending::AsItIs => path.to_owned(),
            Ending::Unguessable => {
                format!("{}/{}", path.trim_end_matches('/'), &Token::new(&self.0.clock).reveal()[..22])
            }
        };
        check_path(&path).map_err(|sentence| Error::invalid("path", sentence))?;
        let _one_at_a_time = self.0.opening.lock().await;
        if self.paths(instance).len() >= MOST_PATHS {
            return Err(Error::Conflict(format!("{MOST_PATHS} paths are open, as many as may be. Close one first.")));
        }
        let opened = OpenPath { path, opened_at: self.0.clock.now() };
        let tx = self.0.db.begin().await?;
        if !store::open_path(&tx, instance, &opened.path, opened.opened_at).await? {
            return Err(Error::Conflict("This path is open already.".into()));
        }
        tx.commit().await?;
        self.memory().shelf(instance).paths.push(opened.clone());
        Ok(opened)
    }

    /// Closes `path`. What was taken for it before is still delivered.
    ///
    /// # Errors
    /// `NotFound` when it is not open.
    pub async fn close_path(&self, instance: InstanceId, path: &str) -> Result<()> {
        let tx = self.0.db.begin().await?;
        if !store::close_path(&tx, instance, path).await? {
            return Err(Error::NotFound);
        }
        tx.commit().await?;
        self.memory().shelf(instance).paths.retain(|open| open.path != path);
        Ok(())
    }

    /// The paths that are open, in their order.
    #[must_use]
    pub fn paths(&self, instance: InstanceId) -> Vec<OpenPath> {
        let mut paths = self.memory().look(instance, |shelf| shelf.paths.clone());
        paths.sort_by(|a, b| a.path.cmp(&b.path));
        paths
    }

    /// Whether `path` is open, from memory: asked at every request.
    #[must_use]
    pub fn is_open(&self, instance: InstanceId, path: &str) -> bool {
        self.memory().look(instance, |shelf| shelf.paths.iter().any(|open| open.path == path))
    }

    /// Counts somebody who wants to leave a letter, before anything of it is read.
    ///
    /// # Errors
    /// `TooMany` when this address, or everybody together, left too many for this instance of late.
    pub fn knock(&self, instance: InstanceId, from: IpAddr) -> Result<()> {
        self.0.limits.knock(instance, from)
    }

    /// Keeps a letter. It is on disk when this returns, and will be delivered.
    ///
    /// # Errors
    /// When there is no room for it, or the database does not answer.
    pub async fn take_in(&self, instance: InstanceId, parcel: Parcel) -> std::result::Result<LetterId, NotTaken> {
        let letter = Letter { id: LetterId(self.0.clock.uuid()), instance, alarm: None, parcel: Some(parcel) };
        let bytes = letter.bytes();
        // Room is set aside before the disk is asked, so that no crowd of senders gets past the limit together.
        self.memory().set_aside(instance, bytes).map_err(NotTaken::Full)?;
        let written = async {
            let tx = self.0.db.begin().await?;
            self.write(&tx, &letter).await?;
            tx.commit().await
        };
        if let Err(error) = written.await {
            self.memory().give_back(instance, State::Waiting, bytes);
            return Err(NotTaken::Failed(error));
        }
        self.look_at(instance, self.0.clock.now());
        Ok(letter.id)
    }

    /// Writes a letter of Berth's own in the caller's transaction. Room is set aside for it, and given back unless the
    /// commit is told with [`Posted::carry`].
    ///
    /// # Errors
    /// When there is no room for it, or the database does not answer.
    pub async fn post_in(
        &self,
        tx: &Tx,
        instance: InstanceId,
        parcel: Parcel,
    ) -> std::result::Result<Posted, NotTaken> {
        let letter = Letter { id: LetterId(self.0.clock.uuid()), instance, alarm: None, parcel: Some(parcel) };
        let bytes = letter.bytes();
        self.memory().set_aside(instance, bytes).map_err(NotTaken::Full)?;
        let posted = Posted { mailbox: self.clone(), instance, bytes, is_kept: false };
        self.write(tx, &letter).await.map_err(NotTaken::Failed)?;
        Ok(posted)
    }

    /// Writes an alarm's letter in the caller's transaction: a POST to `path`, or with none only that the instance shall
    /// wake. While its last one waits there is no second, and of those that failed the last is kept alone.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn ring_in(&self, tx: &Tx, instance: InstanceId, alarm: &str, path: Option<&str>) -> Result<Rang> {
        let forgotten = store::forget_failed_alarm(tx, instance, alarm).await?;
        if store::alarm_waits(tx, instance, alarm).await? {
            return Ok(Rang { written: false, forgotten });
        }
        let parcel = path.map(|path| Parcel {
            method: "POST".into(),
            target: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        });
        let id = LetterId(self.0.clock.uuid());
        self.write(tx, &Letter { id, instance, alarm: Some(alarm.to_owned()), parcel }).await?;
        Ok(Rang { written: true, forgotten })
    }

    /// Has an alarm's letter carried; call it after the commit.
    pub fn rang(&self, instance: InstanceId, rang: Rang) {
        {
            let mut memory = self.memory();
            for _ in 0..rang.forgotten {
                memory.give_back(instance, State::Failed, 0);
            }
            if rang.written {
                memory.shelf(instance).counts.waiting += 1;
            }
        }
        self.look_at(instance, self.0.clock.now());
    }

    /// Has a letter tried now, and for its whole time again, also one that failed.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such letter, or it was delivered.
    pub async fn retry(&self, instance: InstanceId, id: LetterId) -> Result<()> {
        let now = self.0.clock.now();
        let tx = self.0.db.begin().await?;
        let before = store::retry(&tx, instance, id, now, now.plus(TRIED_FOR)).await?.ok_or(Error::NotFound)?;
        tx.commit().await?;
        if before == State::Failed {
            self.memory().unfail(instance);
        }
        self.look_at(instance, now);
        Ok(())
    }

    /// Throws a letter away that waits or failed.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such letter, or it was delivered.
    pub async fn discard(&self, instance: InstanceId, id: LetterId) -> Result<()> {
        let tx = self.0.db.begin().await?;
        let (state, bytes) = store::discard(&tx, instance, id).await?.ok_or(Error::NotFound)?;
        tx.commit().await?;
        self.memory().give_back(instance, state, bytes);
        // What stood behind it on its path may go now.
        self.look_at(instance, self.0.clock.now());
        Ok(())
    }

    /// The newest letters in one state, newest first.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn letters(&self, instance: InstanceId, state: State, limit: u64) -> Result<Vec<LetterView>> {
        store::latest(&self.0.db, instance, state, limit).await
    }

    /// What is kept for one instance.
    #[must_use]
    pub fn counts(&self, instance: InstanceId) -> Counts {
        self.memory().look(instance, |shelf| shelf.counts)
    }

    /// What is kept for all of them.
    #[must_use]
    pub fn counts_of_all(&self) -> Counts {
        self.memory().all()
    }

    /// Deletes paths and letters of `instance` in the caller's transaction; call [`Mailbox::forget`] after the commit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_in(&self, tx: &Tx, instance: InstanceId) -> Result<()> {
        store::forget(tx, instance).await
    }

    /// Forgets what was deleted by [`Mailbox::forget_in`].
    pub fn forget(&self, instance: InstanceId) {
        self.memory().forget(instance);
    }

    async fn write(&self, tx: &Tx, letter: &Letter) -> Result<()> {
        let number = self.0.number.fetch_add(1, Ordering::SeqCst) + 1;
        let now = self.0.clock.now();
        store::insert(tx, letter, number, now, now.plus(TRIED_FOR)).await
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How an opened path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    AsItIs,
    Unguessable,
}
