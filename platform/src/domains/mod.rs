//! Domains: names of owners' own by which their instances are entered as well. A name is claimed by anybody and belongs to
//! whoever proves it: by a text in DNS that only its owner can write, or by making it an alias of the instance's host.
//!
//! Where a name leads is asked at every request, so proven ones stand in memory. DNS is asked when an owner says so, and once
//! a day for each proven name; never by a visitor. The platform is one process, and it alone writes here.

mod dns;
mod registration;
mod rules;
mod store;

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use dns::Dns;
use futures_util::StreamExt as _;
use rules::{Fate, Seen};
pub use rules::{MISSED_DAYS, PROOF_LABEL};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::{Clock, Timestamp};
use crate::config::Config;
use crate::db::{Db, InstanceId, Tx, audit};
use crate::error::{Error, Result};
use crate::hosts::{Hosts, VirtualHost};
use crate::instances::{Instance, Instances};
use crate::secrets::Token;

/// Domains that one run of the daily look asks about, and at a time: a bound on how long it takes.
const LOOKED_AT: usize = 200;
const AT_A_TIME: usize = 16;

/// The room. Cheap to clone.
#[derive(Clone)]
pub struct Domains(Arc<Inner>);

struct Inner {
    db: Db,
    clock: Clock,
    hosts: Hosts,
    instances: Instances,
    dns: Dns,
    per_account: u32,
    memory: RwLock<Memory>,
    /// One at a time changes rows and memory, so that the two stay in step.
    changing: tokio::sync::Mutex<()>,
}

/// A domain's id, as its owner's page names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct DomainId(pub Uuid);

impl std::fmt::Display for DomainId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for DomainId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> std::result::Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

#[derive(Default)]
struct Memory {
    all: HashMap<DomainId, Domain>,
    /// Where a proven name leads.
    proven: HashMap<String, InstanceId>,
}

/// A name that somebody claimed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Domain {
    pub id: DomainId,
    #[serde(skip)]
    pub instance: InstanceId,
    /// Lower case, without a dot at its end.
    pub name: String,
    /// What a TXT record at [`PROOF_LABEL`] and the name has to say.
    pub proof: String,
    pub claimed_at: Timestamp,
    /// When DNS last answered; of a proven one, when it last showed the proof or a day without it was counted.
    pub checked_at: Option<Timestamp>,
    /// When its owner last had it looked up, as far as this process knows.
    #[serde(skip)]
    pub asked_at: Option<Timestamp>,
    #[serde(flatten)]
    pub state: State,
}

/// How it stands with a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    /// Not proven yet, or not any more.
    Claimed,
    /// It leads to the instance. `missed`: days in a row on which the proof was not there.
    Proven { at: Timestamp, missed: i64 },
}

impl Domain {
    /// Whether it leads to its instance.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        matches!(self.state, State::Proven { .. })
    }

    /// The name of the TXT record that proves it.
    #[must_use]
    pub fn proof_name(&self) -> String {
        format!("{PROOF_LABEL}{}", self.name)
    }
}

impl Domains {
    /// Reads who claimed and proved what.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn open(db: Db, clock: Clock, instances: Instances, config: &Config) -> Result<Self> {
        let domains = Self(Arc::new(Inner {
            hosts: config.hosts.clone(),
            dns: config.dns.map_or(Dns::System, Dns::Server),
            per_account: config.domains_per_account,
            memory: RwLock::default(),
            changing: tokio::sync::Mutex::default(),
            db,
            clock,
            instances,
        }));
        for domain in store::all(&domains.0.db).await? {
            domains.remember(domain);
        }
        Ok(domains)
    }

    /// How many domains an account may have; zero: this server takes none.
    #[must_use]
    pub fn per_account(&self) -> u32 {
        self.0.per_account
    }

    /// Claims a name for `instance`. It leads there once it is proven; until then others may claim it as well.
    ///
    /// # Errors
    /// `Invalid` for what is no name of somebody's own; `Conflict` when it is claimed already, or as many as may be are.
    pub async fn claim(&self, instance: &Instance, typed: &str) -> Result<Domain> {
        let hosts = &self.0.hosts;
        let own = [hosts.apex.as_str(), hosts.app.as_str(), hosts.instances.as_str()];
        let name = rules::tidy_name(typed, &own).map_err(|sentence| Error::invalid("name", sentence))?;
        let _one_at_a_time = self.0.changing.lock().await;
        if self.of(instance.id).iter().any(|domain| domain.name == name) {
            return Err(Error::Conflict("You claimed this domain already.".into()));
        }
        let domain = Domain {
            id: DomainId(self.0.clock.uuid()),
            instance: instance.id,
            name,
            proof: format!("berth-{}", Token::new(&self.0.clock).reveal()),
            claimed_at: self.0.clock.now(),
            checked_at: None,
            asked_at: None,
            state: State::Claimed,
        };
        let tx = self.0.db.begin().await?;
        if store::count(&tx, instance.id).await? >= u64::from(self.0.per_account) {
            return Err(Error::Conflict(match self.0.per_account {
                0 => "This server takes no domains.".into(),
                most => format!("An account may have {most} domains here. Remove one first."),
            }));
        }
        store::insert(&tx, &domain).await?;
        self.record(&tx, instance.handle.as_str(), "claim_domain", (instance, &domain)).await?;
        tx.commit().await?;
        self.remember(domain.clone());
        Ok(domain)
    }

    /// Looks the proof up in DNS, for the owner; how it stands then.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such domain; `TooMany` when it was looked up just now; `Conflict` when the proof is
    /// not there, or somebody else's still is; `Unavailable` when DNS does not answer.
    pub async fn check(&self, instance: &Instance, id: DomainId) -> Result<Domain> {
        let domain = self.find(instance.id, id).ok_or(Error::NotFound)?;
        let now = self.0.clock.now();
        let since = domain.asked_at.filter(|at| *at <= now).map(|at| now.since(at));
        if let Some(wait) =
            since.and_then(|since| rules::LOOKED_UP_AGAIN_AFTER.checked_sub(since)).filter(|wait| !wait.is_zero())
        {
            let message = "This was looked up just now. Please try again in a few seconds.".to_owned();
            return Err(Error::TooMany { message, retry_after: wait });
        }
        self.change(|memory| {
            if let Some(domain) = memory.all.get_mut(&id) {
                domain.asked_at = Some(now);
            }
        });
        match self.look_up(&domain).await {
            Seen::Proof => {
                self.dispossess(&domain).await?;
                let at = match domain.state {
                    State::Proven { at, .. } => at,
                    State::Claimed => now,
                };
                self.settle(&domain, State::Proven { at, missed: 0 }).await
            }
            Seen::Nothing => {
                // Whether a proven one is lost is for the daily look to say, and asking does not put that off.
                if !domain.is_proven() {
                    self.settle(&domain, State::Claimed).await?;
                }
                Err(Error::Conflict(format!(
                    "DNS does not show it yet: neither a TXT record at {} with the text below, nor {} as an alias of {}. \
                     What was just written may take as long to be seen as its time to live.",
                    domain.proof_name(),
                    domain.name,
                    self.0.hosts.instance_host(&instance.handle),
                )))
            }
            Seen::NoAnswer => Err(Error::Unavailable {
                message: "DNS does not answer just now. Please try again in a moment.".into(),
                retry_after: rules::LOOKED_UP_AGAIN_AFTER,
            }),
        }
    }

    /// Gives a domain up, for `actor`. It leads nowhere from now on.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such domain.
    pub async fn remove(&self, instance: &Instance, id: DomainId, actor: &str) -> Result<()> {
        let _one_at_a_time = self.0.changing.lock().await;
        let domain = self.find(instance.id, id).ok_or(Error::NotFound)?;
        let tx = self.0.db.begin().await?;
        if !store::delete(&tx, instance.id, id).await? {
            return Err(Error::NotFound);
        }
        self.record(&tx, actor, "remove_domain", (instance, &domain)).await?;
        tx.commit().await?;
        self.change(|memory| memory.forget(id));
        Ok(())
    }

    /// The domains of an instance, by name.
    #[must_use]
    pub fn of(&self, instance: InstanceId) -> Vec<Domain> {
        let mut domains: Vec<Domain> =
            self.look(|memory| memory.all.values().filter(|domain| domain.instance == instance).cloned().collect());
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        domains
    }

    /// Where a host that is none of ours leads, however it is written; from memory: asked at every request.
    #[must_use]
    pub fn entrance(&self, host: &str) -> Option<VirtualHost> {
        let name = rules::normal(Hosts::without_port(host));
        let id = self.look(|memory| memory.proven.get(&name).copied())?;
        let instance = self.0.instances.by_id(id)?;
        Some(self.0.hosts.virtual_host_of_domain(&name, &instance.handle, id))
    }

    /// Asks DNS about every proven domain whose day is over; how many were lost. One whose proof was not there for
    /// [`MISSED_DAYS`] in a row leads nowhere from then on.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn look_again(&self) -> Result<u64> {
        let now = self.0.clock.now();
        let is_due = |domain: &&Domain| domain.is_proven() && rules::is_due(domain.checked_at, now);
        let mut due: Vec<Domain> = self.look(|memory| memory.all.values().filter(is_due).cloned().collect());
        due.sort_by_key(|domain| domain.checked_at);
        due.truncate(LOOKED_AT);
        let looks = futures_util::stream::iter(due).map(|domain| async {
            let seen = self.look_up(&domain).await;
            (domain, seen)
        });
        let seen: Vec<(Domain, Seen)> = looks.buffer_unordered(AT_A_TIME).collect().await;
        let mut lost = 0;
        for (domain, seen) in seen {
            let State::Proven { at, missed } = domain.state else { continue };
            // Removed, or looked up by its owner meanwhile: that was later.
            let is_as_it_was = self.find(domain.instance, domain.id).is_some_and(|now| now.state == domain.state);
            // Silence is not noted: it is asked again by the next run, and was no day on which the proof was missing.
            if seen == Seen::NoAnswer || !is_as_it_was {
                continue;
            }
            let state = match rules::fate(seen, missed) {
                Fate::Keeps { missed } => State::Proven { at, missed },
                Fate::Lost => {
                    lost += 1;
                    tracing::info!(instance.id = %domain.instance, domain = domain.name, "a domain is lost: its proof is gone");
                    State::Claimed
                }
            };
            self.settle(&domain, state).await?;
        }
        Ok(lost)
    }

    /// Deletes everything of `instance` in the caller's transaction; call [`Domains::forget`] after the commit.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_in(&self, tx: &Tx, instance: InstanceId) -> Result<()> {
        store::forget(tx, instance).await
    }

    /// Forgets what was deleted by [`Domains::forget_in`].
    pub fn forget(&self, instance: InstanceId) {
        for domain in self.of(instance) {
            self.change(|memory| memory.forget(domain.id));
        }
    }

    /// Takes a name from whoever had it before, if they cannot prove it any more: it was sold, or given up.
    async fn dispossess(&self, domain: &Domain) -> Result<()> {
        let holder = |other: &&Domain| other.name == domain.name && other.id != domain.id && other.is_proven();
        let Some(holder) = self.look(|memory| memory.all.values().find(holder).cloned()) else { return Ok(()) };
        if self.look_up(&holder).await != Seen::Nothing {
            return Err(Error::Conflict(
                "Another account proved this domain, and its proof is still in DNS. Take that record out, and try again."
                    .into(),
            ));
        }
        self.settle(&holder, State::Claimed).await?;
        Ok(())
    }

    async fn look_up(&self, domain: &Domain) -> Seen {
        let Some(instance) = self.0.instances.by_id(domain.instance) else { return Seen::Nothing };
        let host = self.0.hosts.instance_host(&instance.handle);
        self.0.dns.look_up(&domain.name, &domain.proof, &host).await
    }

    /// Writes how it stands with a domain that DNS answered about. One that was removed meanwhile stays gone.
    async fn settle(&self, domain: &Domain, state: State) -> Result<Domain> {
        let _one_at_a_time = self.0.changing.lock().await;
        let now = self.0.clock.now();
        let before = self.find(domain.instance, domain.id).ok_or(Error::NotFound)?;
        let tx = self.0.db.begin().await?;
        store::set_state(&tx, domain.id, state, Some(now)).await?;
        let proven = |state| matches!(state, State::Proven { .. });
        if let Some(instance) = self.0.instances.by_id(domain.instance)
            && proven(before.state) != proven(state)
        {
            let action = if proven(state) { "prove_domain" } else { "lose_domain" };
            self.record(&tx, "berth", action, (&instance, domain)).await?;
        }
        tx.commit().await?;
        let domain = Domain { state, checked_at: Some(now), ..before };
        self.remember(domain.clone());
        Ok(domain)
    }

    async fn record(&self, tx: &Tx, actor: &str, action: &str, of: (&Instance, &Domain)) -> Result<()> {
        let entry = audit::AuditEntry { actor, action, subject: of.0.handle.as_str(), detail: &of.1.name };
        audit::record(tx, &self.0.clock, &entry).await
    }

    fn find(&self, instance: InstanceId, id: DomainId) -> Option<Domain> {
        self.look(|memory| memory.all.get(&id).filter(|domain| domain.instance == instance).cloned())
    }

    fn remember(&self, domain: Domain) {
        self.change(|memory| {
            memory.forget(domain.id);
            if let State::Proven { .. } = domain.state {
                memory.proven.insert(domain.name.clone(), domain.instance);
            }
            memory.all.insert(domain.id, domain);
        });
    }

    fn look<T>(&self, look: impl FnOnce(&Memory) -> T) -> T {
        look(&self.0.memory.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut Memory) -> T) -> T {
        change(&mut self.0.memory.write().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Memory {
    fn forget(&mut self, id: DomainId) {
        if let Some(domain) = self.all.remove(&id)
            && let State::Proven { .. } = domain.state
        {
            self.proven.remove(&domain.name);
        }
    }
}
