//! The container host (runtime) behind one trait, [`ContainerHost`], in the platform's own terms. Its callers are the
//! instances' reconciler and the provisioner.
//!
//! Three implementations pass one contract test: `docker` (Docker Engine, used by the provisioner), `remote` (the
//! client of the provisioner's socket, used by the platform) and `fake` (in memory, for tests, which step it and make
//! it fail).

pub mod config;
pub mod docker;
pub mod fake;
pub mod protocol;
pub mod remote;
mod sizes;

use std::net::Ipv4Addr;
use std::time::Duration;

use async_trait::async_trait;
use berth_ground::clock::Timestamp;
use berth_ground::ids::InstanceId;
use futures_util::stream::BoxStream;
use serde::{Deserialize, Serialize};

use crate::config::DiskLimit;

/// Most instances on one bridge. A Linux bridge becomes unstable near 1000 ports (Docker's documentation of the bridge
/// driver).
pub const SLOTS_PER_BRIDGE: u32 = 500;

/// Runs containers: one container, one volume, and one unshared address per instance.
///
/// Every verb is idempotent and has its own timeout, so that a lost answer becomes [`HostError::Timeout`] and no caller
/// waits forever. After an error the verb's effect is unknown: call [`ContainerHost::inspect`].
#[async_trait]
pub trait ContainerHost: Send + Sync + 'static {
    /// Creates the missing bridges and returns the gateway address of each. Must be called before the other verbs.
    async fn ensure_networks(&self) -> Result<Vec<Ipv4Addr>, HostError>;

    /// Creates the volume if it does not exist, with the capacity of `size` where the host bounds volumes. An existing
    /// volume keeps its contents and never shrinks. An unknown size is [`HostError::Refused`], a disk too full for new
    /// volumes [`HostError::DiskFull`].
    async fn ensure_volume(&self, instance: InstanceId, size: &str) -> Result<(), HostError>;

    /// Creates the container, stopped, on the instance's volume, which is created if it does not exist. An existing
    /// container is replaced, running or not, if any part of its specification differs (token, image, slot, limits),
    /// and left alone otherwise. A forbidden image, an unknown size or a slot past the last bridge is
    /// [`HostError::Refused`], an allowed image that the host lacks [`HostError::ImageMissing`], a nearly full disk
    /// [`HostError::DiskFull`].
    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError>;

    /// Starts a stopped container; does nothing to a running or frozen one. An absent one is [`HostError::NotFound`], a
    /// nearly full disk [`HostError::DiskFull`].
    async fn start(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Pauses a running container (cgroup freezer) and reclaims its memory to swap if the host has any; does nothing to
    /// a frozen one. An absent one is [`HostError::NotFound`], a stopped one [`HostError::Failed`]. The memory is
    /// reclaimed in the background, after the answer.
    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Undoes [`ContainerHost::freeze`]; does nothing to a running one. An absent one is [`HostError::NotFound`], a
    /// stopped one [`HostError::Failed`].
    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Sends SIGTERM, and SIGKILL after 10 s, even to a frozen container. Does nothing to a stopped or absent one.
    async fn stop(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Removes the container, running or not; the volume stays. Does nothing if the container is absent.
    async fn remove_container(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Marks the volume for destruction with a tombstone, dated by the host's own clock. An existing tombstone keeps
    /// its date, and an absent volume can get one too. Until [`ContainerHost::unbury_volume`], creating and starting on
    /// the volume is [`HostError::Refused`]; a running container keeps running.
    async fn bury_volume(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Undoes [`ContainerHost::bury_volume`]. Does nothing without a tombstone.
    async fn unbury_volume(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Destroys the volume and all its files, irreversibly: the only verb that deletes files. [`HostError::Refused`]
    /// while a container exists, and until the tombstone is `BERTH_DELETE_AFTER_SECONDS` old, so that even a
    /// compromised platform cannot destroy all volumes at once. Does nothing if there is neither a volume nor a
    /// tombstone.
    async fn destroy_volume(&self, instance: InstanceId) -> Result<(), HostError>;

    /// The actual state of one instance.
    async fn inspect(&self, instance: InstanceId) -> Result<ObservedInstance, HostError>;

    /// The actual state of every instance: all containers and volumes that carry this installation's label.
    async fn list(&self) -> Result<Vec<ObservedInstance>, HostError>;

    /// The ids of instances whose container changed. Only a hint to inspect: events are lost while the Engine is
    /// stopped, and the stream ends with the Engine; then open another one.
    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError>;

    /// The current resource usage of the host and of every running or frozen container, read from the kernel and not
    /// from the Engine: cheap enough for every few seconds. Unreadable containers are omitted.
    async fn load(&self) -> Result<HostLoad, HostError>;

    /// Facts about this host for the operator.
    async fn host_report(&self) -> Result<HostReport, HostError>;
}

/// All fields in which two instances' containers may differ. The rest of the configuration is fixed inside the
/// provisioner (`docker/host_config.rs`), so that no caller can request a privileged container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    pub instance: InstanceId,
    /// Determines bridge and address: see [`Slot::address`].
    pub slot: Slot,
    /// One of the allowed images, as written in `BERTH_IMAGES`.
    pub image: String,
    /// For a rollback: the id of the image from which the current container was upgraded, instead of the image to which
    /// the name refers now. Any other id is refused.
    pub image_id: Option<String>,
    /// The name of a size in `BERTH_SIZES`, or `standard`.
    pub size: String,
    pub handle: String,
    /// `https://HANDLE.example.com`, passed to the instance in its environment.
    pub url: String,
    /// The instance's own token, passed to it in its environment. It lives as long as the container.
    pub token: String,
}

/// An instance's position on the bridges, which determines its address. The slot is never reassigned while the instance
/// exists, so a stale address cannot lead to another tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot(pub u32);

impl Slot {
    /// The number of the slot's bridge, from 0.
    #[must_use]
    pub fn bridge(self) -> u32 {
        self.0 / SLOTS_PER_BRIDGE
    }

    /// The container's address, if bridges start at `subnet`: bridge n has the n-th /22, its .1 is the gateway, and the
    /// first sixteen addresses of each /22 stay unused.
    #[must_use]
    pub fn address(self, subnet: Ipv4Addr) -> Ipv4Addr {
        // A /22 has 1024 addresses, so 16 + 500 slots leave it far from its broadcast address.
        Ipv4Addr::from(u32::from(subnet) + self.bridge() * 1024 + 16 + self.0 % SLOTS_PER_BRIDGE)
    }
}

/// The gateway address of bridge number `bridge`, if bridges start at `subnet`.
#[must_use]
pub fn gateway(subnet: Ipv4Addr, bridge: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet) + bridge * 1024 + 1)
}

/// The actual state of one instance: its volume and its container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedInstance {
    pub instance: InstanceId,
    pub volume: bool,
    pub container: Option<ObservedContainer>,
}

/// A container as the host reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ObservedContainer {
    /// The Engine's id; a replacement container of the same instance has another one.
    pub id: String,
    pub state: ContainerState,
    pub image: String,
    /// The id of the image from which the container was created.
    pub image_id: String,
    /// The id to which the image's name refers now; empty if the host no longer has an image of that name.
    pub newest_image_id: String,
    pub size: String,
    /// Whether a container created now from the same image and size names would be identical: false once the image was
    /// rebuilt or a limit changed. A container whose image or size is gone counts as current, because nothing could
    /// replace it.
    pub current: bool,
    pub made_at: Timestamp,
    pub slot: Slot,
    /// SHA-256 of its token, in hex: shows whether this is the container that the database row describes.
    pub token_hash: String,
    /// The last exit; `None` while the container runs or if it never ran.
    pub exit: Option<ContainerExit>,
}

/// A container's state, reduced to the three that matter for waking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Running,
    Frozen,
    Stopped,
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerExit {
    pub code: i64,
    /// The kernel killed it at its memory limit.
    pub out_of_memory: bool,
}

/// Resource usage of the host. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostLoad {
    pub memory_total: u64,
    pub memory_available: u64,
    pub swap_total: u64,
    pub swap_free: u64,
    /// The share of the last ten seconds in which at least one process stalled on memory, in percent (PSI `some
    /// avg10`); `None` on kernels without PSI.
    pub memory_pressure: Option<f64>,
    pub containers: Vec<ContainerLoad>,
}

/// Resource usage of one container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLoad {
    /// The Engine's id: see [`ObservedContainer::id`].
    pub id: String,
    /// Processor time since its start.
    pub cpu: Duration,
    /// Memory in bytes, swap excluded.
    pub memory: u64,
}

/// Facts about the host for the operator, shown by `berth doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    pub engine_version: String,
    pub cgroup_version: u8,
    pub swap_mib: u64,
    pub runc_version: String,
    pub storage_driver: String,
    /// The limit that new volumes get.
    pub disk_limit: DiskLimit,
    /// The disks that hold instances' data, as far as the provisioner can see them.
    pub disks: Vec<DiskUsage>,
    /// The number of volumes with a tombstone.
    pub buried: u32,
    /// Allowed images that the host lacks.
    pub missing_images: Vec<String>,
    /// Allowed images with another id on this host than BERTH_IMAGES pins.
    pub other_images: Vec<String>,
    pub kernel_release: String,
    /// Days since the kernel was built; `None` if its version does not tell.
    pub kernel_age_days: Option<u32>,
    /// OCI runtimes known to the Engine, such as `runc`.
    pub runtimes: Vec<String>,
    /// Security modules that the Engine applies to containers, such as `seccomp` and `apparmor`.
    pub security_options: Vec<String>,
    /// Whether containers survive a restart of the Engine (its `live-restore`).
    pub live_restore: bool,
    /// Whether the egress rules are in force; otherwise a sentence with the reason.
    pub egress: Result<(), String>,
    /// Whether instances are isolated from each other; otherwise a sentence with the reason.
    pub neighbours: Result<(), String>,
    pub containers: ConfigurationDrift,
}

/// Configuration drift of the running and frozen containers: the difference between their current configuration and the
/// one with which they were created.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigurationDrift {
    /// Containers without drift.
    pub as_made: u32,
    /// Containers of another version of Berth or other settings: they will be replaced, and are not compared.
    pub older: u32,
    /// Containers with drift: name and differing fields, at most 20.
    pub changed: Vec<String>,
}

/// Usage of a disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUsage {
    /// The disk's contents in words, such as `volumes`.
    pub holds: String,
    pub used_percent: u8,
    pub inodes_used_percent: u8,
}

impl DiskUsage {
    /// The greater of the two percentages: a disk is full when either runs out.
    #[must_use]
    pub fn fullest(&self) -> u8 {
        self.used_percent.max(self.inodes_used_percent)
    }
}

/// Why a verb failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum HostError {
    #[error("there is no such container")]
    NotFound,
    #[error("the image {0} is not on this host")]
    ImageMissing(String),
    #[error("the provisioner refuses: {0}")]
    Refused(String),
    #[error("the disk is full, or nearly so")]
    DiskFull,
    #[error("the container engine did not answer in time")]
    Timeout,
    #[error("the container engine cannot be reached")]
    Unreachable,
    #[error("the container engine failed: {0}")]
    Failed(String),
}

impl HostError {
    /// A sentence for the owner of the instance. It never contains the engine's own text, which may reveal other
    /// tenants.
    #[must_use]
    pub fn message_for_user(&self) -> &'static str {
        match self {
            Self::ImageMissing(_) => {
                "The image this instance runs is not on the server. The operator has to build or load it; your files are safe."
            }
            Self::DiskFull => {
                "The server's disk is full or nearly so, and nothing new starts on it. The operator has to free some space; your files are safe."
            }
            Self::Refused(_) => {
                "The server refused to run this instance as asked. The operator can see why in the log."
            }
            Self::Timeout | Self::Unreachable => {
                "The container engine does not answer just now. Berth keeps trying; your files are safe."
            }
            Self::NotFound | Self::Failed(_) => {
                "The container could not be run. Berth keeps trying; your files are safe."
            }
        }
    }
}
