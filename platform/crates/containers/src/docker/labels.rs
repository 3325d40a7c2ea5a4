//! The labels by which a container or volume says whose it is: the ledger is rebuilt from them when in doubt.

use std::collections::HashMap;

use berth_ground::clock::Timestamp;
use berth_ground::ids::InstanceId;
use berth_ground::secrets::hash;
use sha2::{Digest as _, Sha256};

use crate::{ContainerSpec, ContainerState, Exit, SeenContainer, Slot};

/// Which installation: the value is `BERTH_NETWORK`.
pub(super) const INSTALLATION: &str = "berth.installation";
pub(super) const INSTANCE: &str = "berth.instance";
const SLOT: &str = "berth.slot";
const IMAGE: &str = "berth.image";
const IMAGE_ID: &str = "berth.image-id";
const SIZE: &str = "berth.size";
const TOKEN_HASH: &str = "berth.token-hash";
/// SHA-256 of the whole configuration the container was made with, this label excepted.
pub(super) const SPEC_HASH: &str = "berth.spec-hash";

/// SHA-256 of what the configuration is apart from the instance's own: see [`super::host_config::kind`].
pub(super) const KIND: &str = "berth.kind";
/// The image that the container before this one was made from.
pub(super) const IMAGE_BEFORE: &str = "berth.image-before";
/// When it was made, in milliseconds since 1970.
pub(super) const MADE_AT: &str = "berth.made-at";

/// What a container's labels say.
pub(super) struct Labels {
    pub instance: InstanceId,
    pub slot: Slot,
    pub image: String,
    pub image_id: String,
    pub size: String,
    pub kind: String,
    pub made_at: Timestamp,
    pub token_hash: String,
}

impl Labels {
    /// The container that carries them, `current` or not, while its image's name means `newest_image_id`.
    pub(super) fn seen(
        self,
        (id, state, exit): (String, ContainerState, Option<Exit>),
        (newest_image_id, current): (String, bool),
    ) -> SeenContainer {
        let Self { image, image_id, size, made_at, slot, token_hash, .. } = self;
        SeenContainer { id, state, image, image_id, newest_image_id, size, current, made_at, slot, token_hash, exit }
    }
}

/// The labels of a container made for `spec`.
pub(super) fn of_container(installation: &str, spec: &ContainerSpec, image_id: &str) -> HashMap<String, String> {
    let mut labels = of_volume(installation, spec.instance);
    labels.insert(SLOT.into(), spec.slot.0.to_string());
    labels.insert(IMAGE.into(), spec.image.clone());
    labels.insert(IMAGE_ID.into(), image_id.to_owned());
    labels.insert(SIZE.into(), spec.size.clone());
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
        // These four came later: a container without them is one of an older kind.
        image_id: labels.get(IMAGE_ID).cloned().unwrap_or_default(),
        size: labels.get(SIZE).cloned().unwrap_or_default(),
        kind: labels.get(KIND).cloned().unwrap_or_default(),
        made_at: Timestamp(labels.get(MADE_AT).and_then(|ms| ms.parse().ok()).unwrap_or_default()),
        token_hash: labels.get(TOKEN_HASH)?.clone(),
    })
}

/// SHA-256 of a token, in hex.
pub(super) fn token_hash(token: &str) -> String {
    hex::encode(hash(token))
}

/// SHA-256 over a JSON value with the keys of every object in order, so that equal values have equal hashes.
pub(super) fn hash_of(value: &serde_json::Value) -> String {
    let mut hasher = Sha256::new();
    feed(value, &mut hasher);
    hex::encode(hasher.finalize())
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
