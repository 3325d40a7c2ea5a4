//! The labels of containers and volumes: installation, instance, specification. The actual state is rebuilt from them,
//! since nothing else is stored outside the Engine.

use std::collections::HashMap;

use berth_ground::clock::Timestamp;
use berth_ground::ids::InstanceId;
use berth_ground::secrets::hash;
use sha2::{Digest as _, Sha256};

use crate::{ContainerExit, ContainerSpec, ContainerState, ObservedContainer, Slot};

/// The installation: the value of `BERTH_NETWORK`.
pub(super) const INSTALLATION: &str = "berth.installation";
pub(super) const INSTANCE: &str = "berth.instance";
const SLOT: &str = "berth.slot";
const IMAGE: &str = "berth.image";
const IMAGE_ID: &str = "berth.image-id";
const SIZE: &str = "berth.size";
const TOKEN_HASH: &str = "berth.token-hash";
/// SHA-256 of the whole create request, except this label.
pub(super) const SPEC_HASH: &str = "berth.spec-hash";

/// SHA-256 of the create request without the instance's own values: see [`super::host_config::kind`].
pub(super) const KIND: &str = "berth.kind";
/// The folder of the volumes' files: a container made for another one is replaced at its next start, and its volume
/// then refers to this one.
pub(super) const VOLUMES: &str = "berth.volumes";
/// The image of the container that this one replaced, for a rollback.
pub(super) const IMAGE_BEFORE: &str = "berth.image-before";
/// The time of creation, in milliseconds since the Unix epoch.
pub(super) const MADE_AT: &str = "berth.made-at";

/// A container's labels, parsed.
pub(super) struct ContainerLabels {
    pub instance: InstanceId,
    pub slot: Slot,
    pub image: String,
    pub image_id: String,
    pub size: String,
    pub kind: String,
    pub made_at: Timestamp,
    pub token_hash: String,
}

/// The part of a container's state that its labels do not hold.
pub(super) struct ContainerStatus {
    pub id: String,
    pub state: ContainerState,
    pub exit: Option<ContainerExit>,
}

/// The image that a container would get now.
pub(super) struct NewestImage {
    /// Empty if the host has no image of that name, or BERTH_IMAGES pins another one.
    pub image_id: String,
    /// See [`ObservedContainer::current`].
    pub is_current: bool,
}

impl ContainerLabels {
    /// The container that carries these labels.
    pub(super) fn observed(self, status: ContainerStatus, newest: NewestImage) -> ObservedContainer {
        let ContainerStatus { id, state, exit } = status;
        let NewestImage { image_id: newest_image_id, is_current: current } = newest;
        let Self { image, image_id, size, made_at, slot, token_hash, .. } = self;
        ObservedContainer {
            id,
            state,
            image,
            image_id,
            newest_image_id,
            size,
            current,
            made_at,
            slot,
            token_hash,
            exit,
        }
    }
}

/// The labels of a container for `spec`.
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

/// Parses a container's labels; `None` if it is not one of ours.
pub(super) fn read(installation: &str, labels: &HashMap<String, String>) -> Option<ContainerLabels> {
    if labels.get(INSTALLATION)? != installation {
        return None;
    }
    Some(ContainerLabels {
        instance: labels.get(INSTANCE)?.parse().ok()?,
        slot: Slot(labels.get(SLOT)?.parse().ok()?),
        image: labels.get(IMAGE)?.clone(),
        // These four were introduced later: a container without them has an older version and will be replaced.
        image_id: labels.get(IMAGE_ID).cloned().unwrap_or_default(),
        size: labels.get(SIZE).cloned().unwrap_or_default(),
        kind: labels.get(KIND).cloned().unwrap_or_default(),
        made_at: Timestamp(labels.get(MADE_AT).and_then(|ms| ms.parse().ok()).unwrap_or_default()),
        token_hash: labels.get(TOKEN_HASH)?.clone(),
    })
}

/// SHA-256 of a token in hex. A label is readable by every user of the Engine, so it must not hold the token itself.
pub(super) fn token_hash(token: &str) -> String {
    hex::encode(hash(token))
}

/// SHA-256 of a JSON value with the keys of every object sorted, so that equal values have equal hashes.
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
                // Hashed as JSON with its quotes: the concatenation of bare names and values would be ambiguous.
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
        // Numbers and texts differ by the quotes of their JSON form.
        scalar => hasher.update(scalar.to_string().as_bytes()),
    }
}
