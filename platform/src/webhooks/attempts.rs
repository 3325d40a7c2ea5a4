//! The postman's side of the webhooks: whose letters are to be carried when, in which order, and what came of it.

use std::collections::HashSet;

use super::rules::{self, Fate, LISTED_FOR, MOST_LETTERS, MOST_LISTED, Outcome};
use super::{Letter, LetterId, State, Webhooks, store};
use crate::clock::Timestamp;
use crate::db::InstanceId;
use crate::error::Result;

/// What to do for an instance now.
#[derive(Debug, Default)]
pub struct Round {
    /// With their paths: once one of a path is refused, those behind it wait.
    pub letters: Vec<(LetterId, String)>,
    /// Whether an alarm rings for the first time among them, which its own program asked for.
    pub alarm: bool,
    /// When the next letter is to be tried that is not among them.
    pub next: Option<Timestamp>,
}

/// A letter on its way to the program.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub letter: Letter,
    /// Counted from one, and on disk before the program hears of it.
    pub attempt: i64,
    give_up_at: Timestamp,
}

impl Webhooks {
    /// Instances with a letter to be tried now. Whoever asks looks after them: they are named once.
    #[must_use]
    pub fn take_due(&self) -> Vec<InstanceId> {
        let now = self.0.clock.now();
        self.memory().take_due(now)
    }

    /// Has the instance named by [`Webhooks::take_due`] at `at`, unless that is sooner anyway.
    pub fn look_at(&self, instance: InstanceId, at: Timestamp) {
        self.memory().look_at(instance, at);
        if at <= self.0.clock.now() {
            self.0.due.notify_one();
        }
    }

    /// Comes back when a letter came in that can be carried now.
    pub async fn until_due(&self) {
        self.0.due.notified().await;
    }

    /// The letters to try now, in the order of their arrival, and when the next one is to be tried. A letter that is not
    /// due holds back those behind it on its path.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn round(&self, instance: InstanceId) -> Result<Round> {
        let now = self.0.clock.now();
        let waiting = store::waiting(&self.0.db, instance, MOST_LETTERS + 100).await?;
        let mut round = Round::default();
        let mut held = HashSet::new();
        for letter in waiting {
            if held.contains(&letter.path) {
                continue;
            }
            if letter.try_at <= now {
                round.alarm |= letter.alarm && letter.attempts == 0;
                round.letters.push((letter.id, letter.path));
            } else {
                round.next = Some(round.next.map_or(letter.try_at, |next| next.min(letter.try_at)));
                held.insert(letter.path);
            }
        }
        Ok(round)
    }

    /// Whether letters may wake the instance once more; else when they may.
    ///
    /// # Errors
    /// That moment.
    pub fn may_wake(&self, instance: InstanceId) -> std::result::Result<(), Timestamp> {
        self.0.limits.may_wake(instance).map_err(|wait| self.0.clock.now().plus(wait))
    }

    /// Notes that letters woke the instance just now.
    pub fn woke(&self, instance: InstanceId) {
        let now = self.0.clock.now();
        self.memory().shelf(instance).woke_at = now;
    }

    /// When letters last woke the instance.
    #[must_use]
    pub fn woke_at(&self, instance: InstanceId) -> Timestamp {
        Timestamp(self.memory().look(instance, |shelf| shelf.woke_at.0))
    }

    /// Takes a letter out to deliver it: the attempt is counted on disk first, so that one whose answer is lost is known to
    /// have been tried. `None` when it waits no more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn begin_attempt(&self, id: LetterId) -> Result<Option<Delivery>> {
        let tx = self.0.db.begin().await?;
        let Some(taken) = store::take(&tx, id).await? else { return Ok(None) };
        tx.commit().await?;
        Ok(Some(Delivery { letter: taken.letter, attempt: taken.attempt, give_up_at: taken.give_up_at }))
    }

    /// Writes what came of an attempt; when the letter is tried again, if it is.
    ///
    /// # Errors
    /// When the database does not answer: the letter waits as before and is tried once more.
    pub async fn end_attempt(&self, delivery: &Delivery, outcome: &Outcome) -> Result<Option<Timestamp>> {
        let now = self.0.clock.now();
        let fate = rules::fate(outcome, delivery.attempt, now, delivery.give_up_at);
        let (Outcome::Taken { answer } | Outcome::Refused { answer } | Outcome::Never { answer }) = outcome;
        let instance = delivery.letter.instance;
        let tx = self.0.db.begin().await?;
        let settled = store::settle(&tx, (instance, delivery.letter.id), fate, answer, now).await?;
        tx.commit().await?;
        if let Some(bytes) = settled {
            match fate {
                Fate::Delivered => self.memory().give_back(instance, State::Waiting, bytes),
                Fate::Failed => self.memory().fail(instance),
                Fate::TryAt(_) => {}
            }
        }
        Ok(match fate {
            Fate::TryAt(at) => Some(at),
            Fate::Delivered | Fate::Failed => None,
        })
    }

    /// Deletes delivered letters that nobody looks for any more.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn tidy_up(&self, instance: InstanceId) -> Result<()> {
        let tx = self.0.db.begin().await?;
        store::forget_delivered(&tx, instance, self.0.clock.now().minus(LISTED_FOR), MOST_LISTED).await?;
        tx.commit().await
    }
}
