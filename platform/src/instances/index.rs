//! The in-memory index of all instances: one hash map for each lookup key.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use berth_ground::handle::Handle;

use super::Instance;
use crate::db::{AccountId, InstanceId};

/// Every instance by id, handle, account, token hash and address.
#[derive(Default)]
pub(super) struct InstanceIndex {
    pub by_id: HashMap<InstanceId, Arc<Instance>>,
    pub by_handle: HashMap<Handle, Arc<Instance>>,
    pub by_account: HashMap<AccountId, Arc<Instance>>,
    pub by_token_hash: HashMap<Vec<u8>, Arc<Instance>>,
    pub by_address: HashMap<Ipv4Addr, Arc<Instance>>,
}

impl InstanceIndex {
    pub(super) fn insert(&mut self, instance: &Arc<Instance>) {
        self.by_id.insert(instance.id, Arc::clone(instance));
        self.by_handle.insert(instance.handle.clone(), Arc::clone(instance));
        self.by_account.insert(instance.account, Arc::clone(instance));
        self.by_address.insert(instance.address(), Arc::clone(instance));
        if let Some(hash) = instance.token_hash() {
            self.by_token_hash.insert(hash, Arc::clone(instance));
        }
    }

    pub(super) fn remove(&mut self, id: InstanceId) {
        if let Some(instance) = self.by_id.remove(&id) {
            self.by_handle.remove(&instance.handle);
            self.by_account.remove(&instance.account);
            self.by_token_hash.retain(|_, other| other.id != id);
            self.by_address.retain(|_, other| other.id != id);
        }
    }

    /// Indexes the token of the next container and removes the previous one, so that a replaced container's token is
    /// invalid at once.
    pub(super) fn replace_token(&mut self, instance: &Arc<Instance>, hash: Vec<u8>) {
        if let Some(old) = instance.with_state(|state| state.token_hash.replace(hash.clone())) {
            self.by_token_hash.remove(&old);
        }
        self.by_token_hash.insert(hash, Arc::clone(instance));
    }
}
