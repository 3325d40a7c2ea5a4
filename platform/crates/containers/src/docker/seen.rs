//! What the Engine says of a container, read as ours.

use berth_ground::ids::InstanceId;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, EventMessage};

use super::labels::{self, Labels};
use crate::{ContainerState, Exit};

/// A container of ours, as inspected.
pub(super) struct Found {
    pub marks: Labels,
    pub id: String,
    pub state: ContainerState,
    pub exit: Option<Exit>,
    /// What it was made with: see [`labels::SPEC_HASH`].
    pub spec_hash: Option<String>,
    /// The image that the container before this one was made from.
    pub image_before: Option<String>,
    pub never_ran: bool,
}

impl Found {
    /// Reads what the Engine says; `None` when it is not one of ours.
    pub(super) fn read(installation: &str, there: ContainerInspectResponse) -> Option<Self> {
        use ContainerStateStatusEnum::{CREATED, PAUSED, RUNNING};
        let labels = there.config?.labels?;
        let marks = labels::read(installation, &labels)?;
        let state = there.state?;
        let seen_state = match state.status {
            Some(RUNNING) => ContainerState::Running,
            Some(PAUSED) => ContainerState::Frozen,
            _ => ContainerState::Stopped,
        };
        let never_ran = state.status == Some(CREATED);
        let exit = (seen_state == ContainerState::Stopped && !never_ran).then(|| Exit {
            code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
        });
        Some(Self {
            spec_hash: labels.get(labels::SPEC_HASH).cloned(),
            image_before: labels.get(labels::IMAGE_BEFORE).cloned(),
            never_ran,
            marks,
            id: there.id.unwrap_or_default(),
            state: seen_state,
            exit,
        })
    }
}

/// Whom an event concerns. The Engine puts a container's labels among the event's attributes.
pub(super) fn instance_of(event: EventMessage) -> Option<InstanceId> {
    event.actor?.attributes?.get(labels::INSTANCE)?.parse().ok()
}
