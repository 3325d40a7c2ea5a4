//! Custom domains: further host names of instances. Any account may claim a name; the name is routed to the instance of
//! the account that proves control of it in DNS, by a TXT record or a CNAME to the instance's host.
//!
//! Every request looks up its host, so a write-through index holds the proven names in memory. DNS is queried when an
//! owner requests a check, and once a day for each proven name, never because of a visitor. The platform is the only
//! writer.

mod dns;
mod domain;
mod index;
mod registration;
mod rules;
mod store;

use std::sync::{Arc, PoisonError, RwLock};

use berth_ground::clock::Clock;
use berth_ground::error::{Error, Result};
use berth_ground::secrets::Token;
use berth_net::hosts::{Hosts, VirtualHost};
use dns::DnsServer;
pub use domain::{Domain, DomainId, DomainState};
use futures_util::StreamExt as _;
use index::DomainIndex;
use rules::{DailyCheck, ProofLookup};
pub use rules::{MISSED_DAYS, PROOF_LABEL};

use crate::config::Config;
use crate::db::audit::{self, AuditEntry};
use crate::db::{Db, InstanceId, Tx};
use crate::instances::{Instance, Instances};

/// Most domains that one run of the daily check looks up: bounds the duration of a run.
const CHECKS_PER_RUN: usize = 200;
/// Concurrent lookups of the daily check.
const CONCURRENT_LOOKUPS: usize = 16;

/// The module's interface. Clones share one state.
#[derive(Clone)]
pub struct Domains(Arc<DomainsInner>);

struct DomainsInner {
    db: Db,
    clock: Clock,
    hosts: Hosts,
    instances: Instances,
    dns: DnsServer,
    per_account: u32,
    index: RwLock<DomainIndex>,
    /// Serializes writes. Otherwise two writes could commit in one order and reach `index` in the other.
    write_lock: tokio::sync::Mutex<()>,
}

impl Domains {
    /// Loads all domains into memory.
    pub async fn open(db: Db, clock: Clock, instances: Instances, config: &Config) -> Result<Self> {
        let domains = Self(Arc::new(DomainsInner {
            hosts: config.hosts.clone(),
            dns: config.dns.map_or(DnsServer::System, DnsServer::Server),
            per_account: config.domains_per_account,
            index: RwLock::default(),
            write_lock: tokio::sync::Mutex::default(),
            db,
            clock,
            instances,
        }));
        for domain in store::all(&domains.0.db).await? {
            domains.remember(domain);
        }
        Ok(domains)
    }

    /// Most domains of one account; zero when this server does not offer custom domains.
    #[must_use]
    pub fn per_account(&self) -> u32 {
        self.0.per_account
    }

    /// Claims a name for `instance`. The claim has no effect until it is proven, and other accounts may claim the same
    /// name.
    ///
    /// # Errors
    /// `Invalid` for a name that cannot be registered or belongs to this server; `Conflict` when this instance has
    /// already claimed it, or has the most domains allowed.
    pub async fn claim(&self, instance: &Instance, typed: &str) -> Result<Domain> {
        let hosts = &self.0.hosts;
        let own = [hosts.apex.as_str(), hosts.app.as_str(), hosts.instances.as_str()];
        let name = rules::parse_name(typed, &own).map_err(|sentence| Error::invalid("name", sentence))?;
        let _guard = self.0.write_lock.lock().await;
        if self.of(instance.id).iter().any(|domain| domain.name == name) {
            return Err(Error::Conflict("You claimed this domain already.".into()));
        }
        let domain = Domain {
            id: DomainId(self.0.clock.uuid()),
            instance: instance.id,
            name,
            // Each claim has a random token: the record of one account never proves another account's claim.
            proof: format!("berth-{}", Token::new(&self.0.clock).reveal()),
            claimed_at: self.0.clock.now(),
            checked_at: None,
            asked_at: None,
            state: DomainState::Claimed,
        };
        let tx = self.0.db.begin().await?;
        // Counted under the write lock: two concurrent claims cannot both take the last place.
        if store::count(&tx, instance.id).await? >= u64::from(self.0.per_account) {
            return Err(Error::Conflict(match self.0.per_account {
                0 => "This server does not offer custom domains.".into(),
                most => format!("An account may have {most} domains here. Remove one first."),
            }));
        }
        store::insert(&tx, &domain).await?;
        self.record(&tx, instance.handle.as_str(), "claim_domain", instance, &domain).await?;
        tx.commit().await?;
        self.remember(domain.clone());
        Ok(domain)
    }

    /// Looks up the proof in DNS at the owner's request, and returns the domain in its new state.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such domain; `TooMany` within five seconds of the last check; `Conflict`
    /// when the proof is missing, or another account has proven the name and can still prove it; `Unavailable` when DNS
    /// does not answer.
    pub async fn check(&self, instance: &Instance, id: DomainId) -> Result<Domain> {
        let domain = self.find(instance.id, id).ok_or(Error::NotFound)?;
        let now = self.0.clock.now();
        let since = domain.asked_at.filter(|at| *at <= now).map(|at| now.since(at));
        if let Some(wait) =
            since.and_then(|since| rules::MANUAL_CHECK_INTERVAL.checked_sub(since)).filter(|wait| !wait.is_zero())
        {
            let message = "This was looked up just now. Please try again in a few seconds.".to_owned();
            return Err(Error::TooMany { message, retry_after: wait });
        }
        self.change(|index| index.note_check(id, now));
        match self.look_up(&domain).await {
            ProofLookup::Found => {
                self.take_from_holder(&domain).await?;
                let at = match domain.state {
                    DomainState::Proven { at, .. } => at,
                    DomainState::Claimed => now,
                };
                self.store_state(&domain, DomainState::Proven { at, missed: 0 }).await
            }
            ProofLookup::Missing => {
                // Only the daily check revokes a proven domain, after three days in a row. This lookup must not change
                // `checked_at` either: with one manual check a day the owner could postpone the daily check for ever.
                if !domain.is_proven() {
                    self.store_state(&domain, DomainState::Claimed).await?;
                }
                Err(Error::Conflict(format!(
                    "DNS does not show it yet: neither a TXT record at {} with the text below, nor {} as an alias of {}. \
                     What was just written may take as long to be seen as its time to live.",
                    domain.proof_name(),
                    domain.name,
                    self.0.hosts.instance_host(&instance.handle),
                )))
            }
            ProofLookup::NoAnswer => Err(Error::Unavailable {
                message: "DNS does not answer just now. Please try again in a moment.".into(),
                retry_after: rules::MANUAL_CHECK_INTERVAL,
            }),
        }
    }

    /// Removes a domain, which ends its routing. `actor` is written to the audit log.
    ///
    /// # Errors
    /// `NotFound` when the instance has no such domain.
    pub async fn remove(&self, instance: &Instance, id: DomainId, actor: &str) -> Result<()> {
        let _guard = self.0.write_lock.lock().await;
        let domain = self.find(instance.id, id).ok_or(Error::NotFound)?;
        let tx = self.0.db.begin().await?;
        if !store::delete(&tx, instance.id, id).await? {
            return Err(Error::NotFound);
        }
        self.record(&tx, actor, "remove_domain", instance, &domain).await?;
        tx.commit().await?;
        self.change(|index| index.remove(id));
        Ok(())
    }

    /// The domains of an instance, sorted by name.
    #[must_use]
    pub fn of(&self, instance: InstanceId) -> Vec<Domain> {
        let mut domains: Vec<Domain> =
            self.look(|index| index.values().filter(|domain| domain.instance == instance).cloned().collect());
        domains.sort_by(|a, b| a.name.cmp(&b.name));
        domains
    }

    /// The virtual host for a host name outside this server's own domains. Answered from memory; called for every
    /// request.
    #[must_use]
    pub fn virtual_host(&self, host: &str) -> Option<VirtualHost> {
        // Routing trusts stored proofs, never the current DNS: an A record that points here proves nothing, since
        // anyone can point a name at any address (DNS rebinding).
        let name = rules::normal(Hosts::without_port(host));
        let id = self.look(|index| index.route(&name))?;
        let instance = self.0.instances.by_id(id)?;
        Some(self.0.hosts.virtual_host_of_domain(&name, &instance.handle, id))
    }

    /// Looks up every proven domain that was not checked for a day. A domain without its proof for [`MISSED_DAYS`]
    /// consecutive days is no longer routed. Returns the number of domains lost.
    pub async fn recheck_proofs(&self) -> Result<u64> {
        let now = self.0.clock.now();
        let is_due = |domain: &&Domain| domain.is_proven() && rules::is_due(domain.checked_at, now);
        let mut due: Vec<Domain> = self.look(|index| index.values().filter(is_due).cloned().collect());
        due.sort_by_key(|domain| domain.checked_at);
        due.truncate(CHECKS_PER_RUN);
        let lookups = futures_util::stream::iter(due).map(|domain| async {
            let lookup = self.look_up(&domain).await;
            (domain, lookup)
        });
        let results: Vec<(Domain, ProofLookup)> = lookups.buffer_unordered(CONCURRENT_LOOKUPS).collect().await;
        let mut lost = 0;
        for (domain, lookup) in results {
            let DomainState::Proven { at, missed } = domain.state else { continue };
            // TOCTOU: the owner may have removed or checked the domain during the lookups. That result is newer.
            let is_unchanged = self.find(domain.instance, domain.id).is_some_and(|now| now.state == domain.state);
            // A timeout is not stored: the next run retries, and a DNS outage must not count as a missing proof.
            if lookup == ProofLookup::NoAnswer || !is_unchanged {
                continue;
            }
            let state = match rules::daily_check(lookup, missed) {
                DailyCheck::Keeps { missed } => DomainState::Proven { at, missed },
                DailyCheck::Lost => {
                    lost += 1;
                    tracing::info!(instance.id = %domain.instance, domain = domain.name, "a custom domain was lost: its proof is missing");
                    DomainState::Claimed
                }
            };
            self.store_state(&domain, state).await?;
        }
        Ok(lost)
    }

    /// Deletes the domains of `instance` in the caller's transaction. [`Domains::forget`] must be called after the
    /// commit.
    async fn forget_in(&self, tx: &Tx, instance: InstanceId) -> Result<()> {
        store::forget(tx, instance).await
    }

    /// Removes from memory the domains that [`Domains::forget_in`] deleted.
    fn forget(&self, instance: InstanceId) {
        for domain in self.of(instance) {
            self.change(|index| index.remove(domain.id));
        }
    }

    /// Takes the name from the account that has proven it, if that account's proof is missing now: the name was sold or
    /// given up. `Conflict` while the proof is still there.
    async fn take_from_holder(&self, domain: &Domain) -> Result<()> {
        let holder = |other: &&Domain| other.name == domain.name && other.id != domain.id && other.is_proven();
        let Some(holder) = self.look(|index| index.values().find(holder).cloned()) else { return Ok(()) };
        // Fails towards the holder: otherwise an attacker who can disturb our DNS could take over names.
        if self.look_up(&holder).await != ProofLookup::Missing {
            return Err(Error::Conflict(
                "Another account proved this domain, and its proof is still in DNS. Take that record out, and try again."
                    .into(),
            ));
        }
        self.store_state(&holder, DomainState::Claimed).await?;
        Ok(())
    }

    async fn look_up(&self, domain: &Domain) -> ProofLookup {
        // Dangling CNAME: an alias to the host of a deleted account proves nothing, and its handle is never reused, so
        // another account cannot take the name over.
        let Some(instance) = self.0.instances.by_id(domain.instance) else { return ProofLookup::Missing };
        let host = self.0.hosts.instance_host(&instance.handle);
        self.0.dns.look_up(&domain.name, &domain.proof, &host).await
    }

    /// Stores the new state of a domain after DNS answered. `NotFound` when it was removed during the lookup.
    async fn store_state(&self, domain: &Domain, state: DomainState) -> Result<Domain> {
        let _guard = self.0.write_lock.lock().await;
        let now = self.0.clock.now();
        let before = self.find(domain.instance, domain.id).ok_or(Error::NotFound)?;
        let tx = self.0.db.begin().await?;
        store::set_state(&tx, domain.id, state, Some(now)).await?;
        let proven = |state| matches!(state, DomainState::Proven { .. });
        if let Some(instance) = self.0.instances.by_id(domain.instance)
            && proven(before.state) != proven(state)
        {
            let action = if proven(state) { "prove_domain" } else { "lose_domain" };
            self.record(&tx, "berth", action, &instance, domain).await?;
        }
        tx.commit().await?;
        let domain = Domain { state, checked_at: Some(now), ..before };
        self.remember(domain.clone());
        Ok(domain)
    }

    async fn record(&self, tx: &Tx, actor: &str, action: &str, instance: &Instance, domain: &Domain) -> Result<()> {
        let entry = AuditEntry { actor, action, subject: instance.handle.as_str(), detail: &domain.name };
        audit::record(tx, &self.0.clock, &entry).await
    }

    fn find(&self, instance: InstanceId, id: DomainId) -> Option<Domain> {
        self.look(|index| index.get(id).filter(|domain| domain.instance == instance).cloned())
    }

    fn remember(&self, domain: Domain) {
        self.change(|index| index.insert(domain));
    }

    fn look<T>(&self, look: impl FnOnce(&DomainIndex) -> T) -> T {
        look(&self.0.index.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn change<T>(&self, change: impl FnOnce(&mut DomainIndex) -> T) -> T {
        change(&mut self.0.index.write().unwrap_or_else(PoisonError::into_inner))
    }
}
