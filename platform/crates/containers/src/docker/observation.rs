//! Observation of containers, volumes and images on the Engine.

use berth_ground::ids::InstanceId;
use bollard::models::{ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::InspectContainerOptions;

use super::inspection::InspectedContainer;
use super::labels::{self, ContainerLabels, ContainerStatus, NewestImage};
use super::{DockerHost, errors, host_config};
use crate::{ContainerState, HostError, ObservedContainer};

impl DockerHost {
    /// Inspects the container; `None` if it is absent. Refuses a container of that name without our labels.
    pub(super) async fn inspect_container(
        &self,
        instance: InstanceId,
    ) -> Result<Option<InspectedContainer>, HostError> {
        let name = self.name(instance);
        match self.engine()?.inspect_container(&name, None::<InspectContainerOptions>).await {
            Ok(there) => {
                let found = InspectedContainer::parse(&self.config.network, there);
                found
                    .map(Some)
                    .ok_or_else(|| HostError::Refused(format!("{name} is a container that Berth did not make")))
            }
            Err(error) if errors::is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn has_volume(&self, instance: InstanceId) -> Result<bool, HostError> {
        match self.engine()?.inspect_volume(&self.name(instance)).await {
            Ok(_) => Ok(true),
            Err(error) if errors::is_absent(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// The id to which the name of an image refers now; `None` if the host has no such image.
    pub(super) async fn image_id(&self, name: &str) -> Result<Option<String>, HostError> {
        match self.engine()?.inspect_image(name).await {
            Ok(image) => Ok(image.id),
            Err(error) if errors::is_absent(&error) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The newest image for a container with these labels, and whether the container is up to date: see
    /// [`ObservedContainer::current`].
    async fn newest(&self, marks: &ContainerLabels) -> Result<NewestImage, HostError> {
        let no_upgrade = NewestImage { image_id: String::new(), is_current: true };
        let Some(image_id) = self.image_id(&marks.image).await? else { return Ok(no_upgrade) };
        // An unpinned image of the same name is no upgrade for a container that runs the pinned one.
        if self.config.is_pinned_otherwise(&marks.image, &image_id) {
            return Ok(no_upgrade);
        }
        // Containers from before sizes were introduced lack this label, and count as outdated.
        let Some(size) = self.config.size(&marks.size) else {
            return Ok(NewestImage { image_id, is_current: !marks.size.is_empty() });
        };
        let parent = self.cgroup_parent().await?;
        let kind = host_config::kind(&self.config, &marks.image, size, &image_id, parent);
        Ok(NewestImage { image_id, is_current: marks.kind == kind })
    }

    pub(super) async fn observe(&self, found: InspectedContainer) -> Result<ObservedContainer, HostError> {
        let newest = self.newest(&found.marks).await?;
        let status = ContainerStatus { id: found.id, state: found.state, exit: found.exit };
        Ok(found.marks.observed(status, newest))
    }

    /// Reads a list entry. A stopped container is inspected as well, because the list lacks its exit code.
    pub(super) async fn observe_entry(
        &self,
        entry: ContainerSummary,
    ) -> Result<Option<(InstanceId, ObservedContainer)>, HostError> {
        use ContainerSummaryStateEnum::{PAUSED, RUNNING};
        let marks = entry.labels.as_ref().and_then(|l| labels::read(&self.config.network, l));
        let Some(marks) = marks else { return Ok(None) };
        let state = match entry.state {
            Some(RUNNING) => ContainerState::Running,
            Some(PAUSED) => ContainerState::Frozen,
            _ => {
                let Some(found) = self.inspect_container(marks.instance).await? else { return Ok(None) };
                return Ok(Some((marks.instance, self.observe(found).await?)));
            }
        };
        let newest = self.newest(&marks).await?;
        let status = ContainerStatus { id: entry.id.unwrap_or_default(), state, exit: None };
        Ok(Some((marks.instance, marks.observed(status, newest))))
    }
}
