//! The labels by which a container or volume says whose it is: the ledger is rebuilt from them when in doubt.

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use crate::containers::{ContainerSpec, ContainerState, Exit, SeenContainer, Slot};
use crate::db::InstanceId;
use crate::secrets::{hash, hex};

/// Which installation: the value is `BERTH_NETWORK`.
pub(super) const INSTALLATION: &str = "berth.installation";
pub(super) const INSTANCE: &str = "berth.instance";
const SLOT: &str = "berth.slot";
const IMAGE: &str = "berth.image";
const TOKEN_HASH: &str = "berth.token-hash";
/// SHA-256 of the whole configuration the container was made with, this label excepted.
pub(super) const SPEC_HASH: &str = "berth.spec-hash";

/// What a container's labels say.
pub(super) struct Labels {
    pub instance: InstanceId,
    pub slot: Slot,
    pub image: String,
    pub token_hash: String,
}

impl Labels {
    /// The container that carries them.
    pub(super) fn seen(self, id: String, state: ContainerState, exit: Option<Exit>) -> SeenContainer {
        SeenContainer { id, state, image: self.image, slot: self.slot, token_hash: self.token_hash, exit }
    }
}

/// The labels of a container made for `spec`.
pub(super) fn of_container(installation: &str, spec: &ContainerSpec) -> HashMap<String, String> {
    let mut labels = of_volume(installation, spec.instance);
    labels.insert(SLOT.into(), spec.slot.0.to_string());
    labels.insert(IMAGE.into(), spec.image.clone());
    labels.insert(TOKEN_HASH.into(), token_hash(&spec.token));
    labels
}

/// The labels of an instance's volume.
pub(super) fn of_volume(installation: &str, instance: InstanceId) -> HashMap<String, String> {
    HashMap::from([(INSTALLATION.to_owned(), installation.to_owned()), (INSTANCE.to_owned(), instance.to_string())])
}

/// The Engine's filter for everything of an installation.
pub(super) fn filter(installation: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{INSTALLATION}={installation}")])])
}

/// Reads a container's labels; `None` when it is not one of ours.
pub(super) fn read(installation: &str, labels: &HashMap<String, String>) -> Option<Labels> {
    if labels.get(INSTALLATION)? != installation {
        return None;
    }
    Some(Labels {
        instance: labels.get(INSTANCE)?.parse().ok()?,
        slot: Slot(labels.get(SLOT)?.parse().ok()?),
        image: labels.get(IMAGE)?.clone(),
        token_hash: labels.get(TOKEN_HASH)?.clone(),
    })
}

/// SHA-256 of a token, in hex.
pub(super) fn token_hash(token: &str) -> String {
    hex(&hash(token))
}

/// SHA-256 over a JSON value with the keys of every object in order, so that equal values have equal hashes.
pub(super) fn hash_of(value: &serde_json::Value) -> String {
    let mut hasher = Sha256::new();
    feed(value, &mut hasher);
    hex(&hasher.finalize())
}

fn feed(value: &serde_json::Value, hasher: &mut Sha256) {
    match value {
        serde_json::Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(name, _)| *name);
            hasher.update(b"{");
            for (name, value) in fields {
                feed(&serde_json::Value::from(name.as_str()), hasher);
                feed(value, hasher);
            }
            hasher.update(b"}");
        }
        serde_json::Value::Array(items) => {
            hasher.update(b"[");
            items.iter().for_each(|item| feed(item, hasher));
            hasher.update(b"]");
        }
        scalar => hasher.update(scalar.to_string().as_bytes()),
    }
}
