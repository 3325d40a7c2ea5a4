//! The seam to whatever runs containers, in our words. Only the instances' reconciler and the provisioner call it.
//!
//! Three bodies stand behind [`ContainerHost`] and keep one contract test: `docker` (the Engine, used by the
//! provisioner), `remote` (the provisioner's socket, used by the platform) and `fake` (a small world tests can step).

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

/// Instances on one bridge. A Linux bridge grows unstable near 1000 ports (Docker's documentation of the bridge driver).
pub const SLOTS_PER_BRIDGE: u32 = 500;

/// Runs containers: one an instance, with one volume and one address that is the instance's alone.
///
/// Every verb is idempotent and has a deadline of its own inside, so that a lost answer becomes [`HostError::Timeout`]
/// and no caller waits for ever. What a verb did before it failed is unknown: look with [`ContainerHost::inspect`].
#[async_trait]
pub trait ContainerHost: Send + Sync + 'static {
    /// Makes the bridges that are missing and says where their gateways are. Called once, before anything else.
    async fn ensure_networks(&self) -> Result<Vec<Ipv4Addr>, HostError>;

    /// Makes the volume if there is none, as large as `size` says where the host bounds volumes. One that is there keeps what
    /// is in it, and never shrinks. A size that the host does not know is [`HostError::Refused`], a disk so full that nothing
    /// new should begin on it [`HostError::DiskFull`].
    async fn ensure_volume(&self, instance: InstanceId, size: &str) -> Result<(), HostError>;

    /// Makes the container, stopped, on the instance's volume, which is made if there is none. A container that is there is
    /// replaced, running or not, when anything it was made with differs (token, image, slot, limits), and left alone
    /// otherwise. An image that is not allowed, an unknown size or a slot past the last bridge is [`HostError::Refused`], an
    /// allowed image that is not there [`HostError::ImageMissing`], a disk with hardly any room [`HostError::DiskFull`].
    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError>;

    /// Starts a stopped container. One that runs or is frozen is left alone; absent is [`HostError::NotFound`], a disk with
    /// hardly any room [`HostError::DiskFull`].
    async fn start(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Pauses a running container and hands its memory to swap where the host has any. Frozen already: nothing to do.
    /// Absent is [`HostError::NotFound`], stopped [`HostError::Failed`]. The memory goes in the background, after the answer.
    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Undoes [`ContainerHost::freeze`]. Running already: nothing to do. Absent is [`HostError::NotFound`], stopped
    /// [`HostError::Failed`].
    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Asks it to end (SIGTERM), kills it after 10 s. Works from frozen too. Stopped or absent already: nothing to do.
    async fn stop(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Removes the container, running or not; the volume stays. Absent: nothing to do.
    async fn remove_container(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Marks the volume for destruction, from now on by the host's own clock; one that is buried already keeps its time,
    /// and one that is not there can be buried as well. Until [`ContainerHost::unbury_volume`] nothing is made or started on
    /// it: those verbs are [`HostError::Refused`]. What runs, runs on.
    async fn bury_volume(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Undoes [`ContainerHost::bury_volume`]. Not buried: nothing to do.
    async fn unbury_volume(&self, instance: InstanceId) -> Result<(), HostError>;

    /// Destroys the volume with every file in it, for ever: the one verb that takes files away. [`HostError::Refused`]
    /// while there is a container, and unless it was buried `BERTH_DELETE_AFTER_SECONDS` ago or longer, so that nobody who
    /// talks to the host can make it forget everybody at once. Neither there nor buried: nothing to do.
    async fn destroy_volume(&self, instance: InstanceId) -> Result<(), HostError>;

    /// What is really there for one instance.
    async fn inspect(&self, instance: InstanceId) -> Result<Seen, HostError>;

    /// What is really there: everything that carries this installation's label.
    async fn list(&self) -> Result<Vec<Seen>, HostError>;

    /// Instances to which something happened. Only a hint to look: events are lost while the Engine is away, and the
    /// stream ends when it goes; then open another.
    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError>;

    /// What the host and every running or frozen container use now, without asking the Engine: cheap enough for every few
    /// seconds. A container that cannot be read is left out.
    async fn load(&self) -> Result<HostLoad, HostError>;

    /// What the operator should know of this host.
    async fn host_report(&self) -> Result<HostReport, HostError>;
}

/// Everything that may differ between two instances. The rest of the container's configuration is the
/// provisioner's own (`docker.rs`), so that nobody can ask for a privileged one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContainerSpec {
    pub instance: InstanceId,
    /// Decides bridge and address: see [`Slot::address`].
    pub slot: Slot,
    /// One of the allowed images, as written in `BERTH_IMAGES`.
    pub image: String,
    /// Instead of what the image's name means now: the very image from which the container that is there was upgraded,
    /// to go back to it. Any other is refused.
    pub image_id: Option<String>,
    /// One of the sizes, by name.
    pub size: String,
    pub handle: String,
    /// `https://HANDLE.example.com`, told to the instance.
    pub url: String,
    /// The instance's own token, told to the instance. It lives as long as the container.
    pub token: String,
}

/// An instance's place on a bridge, its own for as long as it exists: an address that is never given to another
/// instance can never lead to another tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Slot(pub u32);

impl Slot {
    /// Which bridge: 0 is the first.
    #[must_use]
    pub fn bridge(self) -> u32 {
        self.0 / SLOTS_PER_BRIDGE
    }

    /// The container's address, when bridges start at `subnet`: bridge n has the n-th /22; .1 is the gateway, and the first
    /// sixteen addresses are left to it.
    #[must_use]
    pub fn address(self, subnet: Ipv4Addr) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(subnet) + self.bridge() * 1024 + 16 + self.0 % SLOTS_PER_BRIDGE)
    }
}

/// The gateway address of bridge `bridge`, when bridges start at `subnet`.
#[must_use]
pub fn gateway(subnet: Ipv4Addr, bridge: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet) + bridge * 1024 + 1)
}

/// What is there for one instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub instance: InstanceId,
    pub volume: bool,
    pub container: Option<SeenContainer>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeenContainer {
    /// The Engine's id: another container of the same instance has another.
    pub id: String,
    pub state: ContainerState,
    pub image: String,
    /// The content that the image's name meant when it was made.
    pub image_id: String,
    /// What it means now; empty when there is none of that name any more.
    pub newest_image_id: String,
    pub size: String,
    /// Whether one made now, of the same image and size by name, would be like it: false once the image was rebuilt or
    /// a limit changed. One whose image or size is gone counts as current: none could take its place.
    pub current: bool,
    pub made_at: Timestamp,
    pub slot: Slot,
    /// SHA-256 of the token it was made with, in hex: tells whether it is the container that the ledger knows.
    pub token_hash: String,
    /// The last exit code and whether it was killed for using too much memory; `None` while it runs or never ran.
    pub exit: Option<Exit>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    Running,
    Frozen,
    Stopped,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    pub code: i64,
    pub out_of_memory: bool,
}

/// What is used now. Sizes in bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HostLoad {
    pub memory_total: u64,
    pub memory_available: u64,
    pub swap_total: u64,
    pub swap_free: u64,
    /// The share of the last ten seconds in which some process waited for memory, in percent (PSI `some avg10`);
    /// `None` where the kernel does not say.
    pub memory_pressure: Option<f64>,
    pub containers: Vec<ContainerLoad>,
}

/// What one container uses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerLoad {
    /// The Engine's id: see [`SeenContainer::id`].
    pub id: String,
    /// Processor time since it was started.
    pub cpu: Duration,
    /// Memory in bytes, without what is in swap.
    pub memory: u64,
}

/// What the operator should know of the host: shown by `berth doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostReport {
    pub engine_version: String,
    pub cgroup_version: u8,
    pub swap_mib: u64,
    pub runc_version: String,
    pub storage_driver: String,
    /// What bounds a volume.
    pub disk_limit: DiskLimit,
    /// The disks that instances live on, as far as the provisioner sees them.
    pub disks: Vec<DiskUse>,
    /// Volumes that wait to be destroyed.
    pub buried: u32,
    /// Allowed images that are not there.
    pub missing_images: Vec<String>,
    /// Allowed images whose name means another image here than the one BERTH_IMAGES pins.
    pub other_images: Vec<String>,
    pub kernel_release: String,
    /// Days since the kernel was built; `None` when it does not say.
    pub kernel_age_days: Option<u32>,
    /// What the Engine can run containers with, such as `runc`.
    pub runtimes: Vec<String>,
    /// What the Engine confines containers with, such as `seccomp` and `apparmor`.
    pub security_options: Vec<String>,
    /// Whether instances go on while the Engine is restarted.
    pub live_restore: bool,
    /// Whether instances reach only what they may, or the sentence that says why not.
    pub egress: Result<(), String>,
    /// Whether instances cannot reach each other, or the sentence that says why.
    pub neighbours: Result<(), String>,
    pub containers: MadeAs,
}

/// Whether the containers that run or are frozen still are what they were made as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MadeAs {
    pub as_made: u32,
    /// Made by another version of Berth or with other settings: they are replaced, and not compared.
    pub older: u32,
    /// Names, and what is different, of at most 20.
    pub changed: Vec<String>,
}

/// How full a disk is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskUse {
    /// What is on it, in words.
    pub holds: String,
    pub used_percent: u8,
    pub inodes_used_percent: u8,
}

impl DiskUse {
    /// By whichever of the two is the fuller.
    #[must_use]
    pub fn fullest(&self) -> u8 {
        self.used_percent.max(self.inodes_used_percent)
    }
}

/// Why the host did not do it.
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
    /// What the owner of the instance is told. Never the engine's own text.
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
