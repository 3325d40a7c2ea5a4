//! The provisioner's configuration: its socket, the network, the allowed images, the sizes, and the limits of volumes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use berth_ground::settings::{SettingsError, SettingsReader};
use serde::{Deserialize, Serialize};

pub use crate::sizes::InstanceSize;
use crate::sizes::read_sizes;

/// The settings that the provisioner and the platform share. The provisioner reads no others, so it holds no secrets.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    pub data_dir: PathBuf,
    /// The folder of the volumes' sparse files and tombstones.
    pub volumes_dir: PathBuf,
    pub socket: PathBuf,
    /// The prefix of every container, volume and bridge name of this installation.
    pub network: String,
    pub subnet: Ipv4Addr,
    pub bridges: u8,
    /// The allowed images; never empty, the first is the default.
    pub images: Vec<String>,
    /// Never empty; the first is the standard size.
    pub sizes: Vec<InstanceSize>,
    /// The pins in BERTH_IMAGES: from an image's name to the only image id that the name may refer to.
    pub image_pins: BTreeMap<String, String>,
    pub runtime: ContainerRuntime,
    pub disk_limit: DiskLimit,
    /// The minimum age of a volume's tombstone before the volume may be destroyed.
    pub delete_after: Duration,
    pub quota_port: u16,
    /// The port on which an instance listens: 8080 by the instance contract, another one only in tests.
    pub instance_port: u16,
}

/// The OCI runtime for instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContainerRuntime {
    /// The Engine's default: namespaces and cgroups on the host's kernel.
    Runc,
    /// gVisor: a user-space kernel between the instance and the host's kernel.
    Runsc,
}

impl ContainerRuntime {
    /// The runtime's name in the Engine's configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Runsc => "runsc",
        }
    }
}

/// The limit on the size of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DiskLimit {
    /// Each volume is an ext4 file system of its own in a sparse file: bytes and inodes are bounded.
    Image,
    /// No limit except the disk's size.
    None,
}

impl ContainerConfig {
    /// The size called `name`.
    #[must_use]
    pub fn size(&self, name: &str) -> Option<&InstanceSize> {
        self.sizes.iter().find(|size| size.name == name)
    }

    /// Whether BERTH_IMAGES pins `image` to another id than `id`.
    #[must_use]
    pub fn is_pinned_otherwise(&self, image: &str, id: &str) -> bool {
        self.image_pins.get(image).is_some_and(|pin| pin != id)
    }

    /// Reads from the environment only what the provisioner needs, so that it never holds the platform's secrets.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn from_env() -> Result<Self, SettingsError> {
        let mut settings = SettingsReader::of_environment();
        let config = Self::read(&mut settings);
        settings.finish(config)
    }

    /// Like [`ContainerConfig::from_env`], through `settings`.
    pub fn read(settings: &mut SettingsReader<'_>) -> Self {
        let data_dir = PathBuf::from(settings.text("BERTH_DATA_DIR"));
        let network = settings.text("BERTH_NETWORK");
        // A Linux interface name has at most 15 characters; the bridge's number takes up to two.
        if !(1..=11).contains(&network.len()) || !network.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            settings.mistake(format!("BERTH_NETWORK is \"{network}\"; use 1 to 11 small letters and digits."));
        }
        let subnet: Ipv4Addr = settings.parsed("BERTH_SUBNET", "an IPv4 address such as 10.89.0.0");
        // 64 bridges with a /22 each fill a /16. A public range would shadow real addresses on this host.
        if !subnet.is_private() || subnet.octets()[2..] != [0, 0] {
            settings.mistake(format!(
                "BERTH_SUBNET is {subnet}; it must be the start of a private /16, such as 10.89.0.0."
            ));
        }
        let bridges: u8 = settings.parsed("BERTH_BRIDGES", "a whole number");
        if !(1..=64).contains(&bridges) {
            settings.mistake(format!("BERTH_BRIDGES is {bridges}; it must be from 1 to 64."));
        }
        let (images, image_pins) = read_images(settings);
        let volumes_dir =
            settings.optional("BERTH_VOLUMES_DIR").map_or_else(|| data_dir.join("volumes"), PathBuf::from);
        if settings.optional("BERTH_VOLUMES_DIR").is_some() && !volumes_dir.is_absolute() {
            settings.mistake(format!(
                "BERTH_VOLUMES_DIR is \"{}\"; it must be an absolute path, because the Engine follows it too.",
                volumes_dir.display()
            ));
        }
        Self {
            socket: data_dir.join("run/provisioner.sock"),
            data_dir,
            volumes_dir,
            network,
            subnet,
            bridges,
            images,
            sizes: read_sizes(settings),
            image_pins,
            runtime: if settings.one_of("BERTH_RUNTIME", "runsc", "runc") {
                ContainerRuntime::Runsc
            } else {
                ContainerRuntime::Runc
            },
            disk_limit: if settings.one_of("BERTH_DISK", "image", "none") { DiskLimit::Image } else { DiskLimit::None },
            delete_after: settings.seconds("BERTH_DELETE_AFTER_SECONDS"),
            // Not a setting: the instance contract fixes the port.
            instance_port: 8080,
            quota_port: settings.parsed("BERTH_QUOTA_PORT", "a port"),
        }
    }
}

/// The image names in BERTH_IMAGES, and the ids of those that are pinned: `NAME` or `NAME@sha256:ID`.
fn read_images(settings: &mut SettingsReader<'_>) -> (Vec<String>, BTreeMap<String, String>) {
    let (mut images, mut pins) = (Vec::new(), BTreeMap::new());
    for entry in settings.text("BERTH_IMAGES").split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (name, pin) = entry.split_once('@').map_or((entry, None), |(name, pin)| (name, Some(pin)));
        if name.is_empty() || pin.is_some_and(|pin| !is_image_id(pin)) {
            settings.mistake(format!(
                "BERTH_IMAGES has \"{entry}\"; write NAME:TAG, or NAME:TAG@sha256: and the 64 digits of the image's id."
            ));
        } else if images.iter().any(|image| image == name) {
            settings.mistake(format!("BERTH_IMAGES names {name} twice."));
        } else {
            images.push(name.to_owned());
            pins.extend(pin.map(|pin| (name.to_owned(), pin.to_owned())));
        }
    }
    // An empty list that an invalid entry caused was already reported with that entry.
    if images.is_empty() && settings.mistakes().iter().all(|mistake| !mistake.starts_with("BERTH_IMAGES")) {
        settings.mistake("BERTH_IMAGES names no image.".into());
    }
    (images, pins)
}

/// Whether `text` is an image id: `sha256:` and 64 hex digits.
fn is_image_id(text: &str) -> bool {
    // Lower case only, as the Engine writes ids: another spelling would never compare equal.
    let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
    text.strip_prefix("sha256:").is_some_and(|digits| digits.len() == 64 && digits.bytes().all(hex))
}
