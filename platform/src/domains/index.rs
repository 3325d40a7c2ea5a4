//! The in-memory index of domains: every claim by its id, and the routing table of proven names.

use std::collections::HashMap;

use berth_ground::clock::Timestamp;

use super::domain::{Domain, DomainId, DomainState};
use crate::db::InstanceId;

#[derive(Default)]
pub(super) struct DomainIndex {
    all: HashMap<DomainId, Domain>,
    /// The instances by proven name. A unique index in the database allows one proven row per name.
    routes: HashMap<String, InstanceId>,
}

impl DomainIndex {
    pub(super) fn get(&self, id: DomainId) -> Option<&Domain> {
        self.all.get(&id)
    }

    /// All domains, in no particular order.
    pub(super) fn values(&self) -> impl Iterator<Item = &Domain> {
        self.all.values()
    }

    /// The instance to which a proven name is routed.
    pub(super) fn route(&self, name: &str) -> Option<InstanceId> {
        self.routes.get(name).copied()
    }

    /// Inserts a domain, or replaces the one with the same id.
    pub(super) fn insert(&mut self, domain: Domain) {
        // Removed first, because a domain that lost its proof must also leave the routing table.
        self.remove(domain.id);
        if let DomainState::Proven { .. } = domain.state {
            self.routes.insert(domain.name.clone(), domain.instance);
        }
        self.all.insert(domain.id, domain);
    }

    pub(super) fn remove(&mut self, id: DomainId) {
        // Only a proven domain owns its route: another account's claim may have the same name.
        if let Some(domain) = self.all.remove(&id)
            && let DomainState::Proven { .. } = domain.state
        {
            self.routes.remove(&domain.name);
        }
    }

    /// Records when the owner last requested a check.
    pub(super) fn note_check(&mut self, id: DomainId, at: Timestamp) {
        if let Some(domain) = self.all.get_mut(&id) {
            domain.asked_at = Some(at);
        }
    }
}
