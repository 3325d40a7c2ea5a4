//! Parses the Engine's inspect responses and events.

use berth_ground::ids::InstanceId;
use bollard::models::{ContainerInspectResponse, ContainerStateStatusEnum, EventMessage};

use super::labels::{self, ContainerLabels};
use crate::{ContainerExit, ContainerState};

/// Concurrent inspections while listing.
pub(super) const CONCURRENT_INSPECTIONS: usize = 8;

/// One of our containers, as inspected.
pub(super) struct InspectedContainer {
    pub marks: ContainerLabels,
    pub id: String,
    pub state: ContainerState,
    pub exit: Option<ContainerExit>,
    /// The hash of its create request: see [`labels::SPEC_HASH`].
    pub spec_hash: Option<String>,
    /// The image of the container that this one replaced, for a rollback.
    pub image_before: Option<String>,
    pub never_ran: bool,
}

impl InspectedContainer {
    /// Parses the inspect response; `None` if the container is not one of ours.
    pub(super) fn parse(installation: &str, there: ContainerInspectResponse) -> Option<Self> {
        use ContainerStateStatusEnum::{CREATED, PAUSED, RUNNING};
        let labels = there.config?.labels?;
        let marks = labels::read(installation, &labels)?;
        let state = there.state?;
        let observed_state = match state.status {
            Some(RUNNING) => ContainerState::Running,
            Some(PAUSED) => ContainerState::Frozen,
            // Created, exited, dead and removing containers alike need a start or a replacement.
            _ => ContainerState::Stopped,
        };
        let never_ran = state.status == Some(CREATED);
        // A created container has exit code 0, which would look like a normal exit.
        let exit = (observed_state == ContainerState::Stopped && !never_ran).then(|| ContainerExit {
            code: state.exit_code.unwrap_or_default(),
            out_of_memory: state.oom_killed.unwrap_or_default(),
        });
        Some(Self {
            spec_hash: labels.get(labels::SPEC_HASH).cloned(),
            image_before: labels.get(labels::IMAGE_BEFORE).cloned(),
            never_ran,
            marks,
            id: there.id.unwrap_or_default(),
            state: observed_state,
            exit,
        })
    }
}

/// The instance that an event concerns. The Engine includes a container's labels in the event's attributes.
pub(super) fn instance_of(event: EventMessage) -> Option<InstanceId> {
    event.actor?.attributes?.get(labels::INSTANCE)?.parse().ok()
}
