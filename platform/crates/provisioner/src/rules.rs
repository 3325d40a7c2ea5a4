//! Validation of requests and peers. Every request comes from a process that faces the network and may be compromised.

use std::path::{Component, Path};

use berth_containers::config::ContainerConfig;
use berth_containers::protocol::ProvisionerCall;
use berth_containers::{ContainerSpec, SLOTS_PER_BRIDGE};
use berth_ground::handle::Handle;

/// Longest token, in characters; ours have 43.
const TOKEN: usize = 128;
/// Longest URL, in characters: a host name has at most 253 (RFC 1035).
const URL: usize = 272;

/// Validates the arguments of a call.
///
/// # Errors
/// A sentence that names the invalid argument. It never contains a token.
pub(super) fn check(call: &ProvisionerCall, config: &ContainerConfig) -> Result<(), String> {
    match call {
        ProvisionerCall::Create { spec } => check_spec(spec, config),
        ProvisionerCall::EnsureVolume { size, .. } => check_size(size, config),
        _ => Ok(()),
    }
}

fn check_spec(spec: &ContainerSpec, config: &ContainerConfig) -> Result<(), String> {
    let slots = u32::from(config.bridges) * SLOTS_PER_BRIDGE;
    if !config.images.contains(&spec.image) {
        return Err(format!("the image {:?} is not in BERTH_IMAGES", spec.image));
    }
    if spec.slot.0 >= slots {
        return Err(format!("slot {} is out of range: BERTH_BRIDGES makes {slots}", spec.slot.0));
    }
    check_size(&spec.size, config)?;
    if let Some(id) = spec.image_id.as_ref().filter(|id| !is_image_id(id)) {
        return Err(format!("{id:?} is not the id of an image"));
    }
    // The handle becomes the host name inside the container, so the grammar of DNS labels matters.
    if let Err(why) = Handle::parse(&spec.handle) {
        return Err(format!("{:?} is not a handle: {why}", spec.handle));
    }
    if !is_token(&spec.token) {
        return Err(format!("a token has 1 to {TOKEN} letters, digits, hyphens and underscores"));
    }
    if !is_url(&spec.url) {
        return Err(format!("{:?} is not the address of an instance", spec.url));
    }
    Ok(())
}

fn check_size(size: &str, config: &ContainerConfig) -> Result<(), String> {
    config.size(size).map(|_| ()).ok_or_else(|| format!("the size {size:?} is not one of the sizes in BERTH_SIZES"))
}

fn is_image_id(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_token(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    (1..=TOKEN).contains(&text.len()) && text.bytes().all(plain)
}

/// Whether `text` is `https://` and a host name, optionally with a port. Nothing else is allowed: the text goes into
/// the environment of a container, and from there into shells and headers (injection).
fn is_url(text: &str) -> bool {
    let Some(host) = text.strip_prefix("https://") else { return false };
    let (name, port) = host.split_once(':').unwrap_or((host, "443"));
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    text.len() <= URL && name.split('.').all(label) && port.parse::<u16>().is_ok_and(|port| port > 0)
}

/// Whether a peer may connect: a member of the socket's group, its owner, or root in root's own group. Root in another
/// group is refused, because Caddy runs so to open port 443. Only the peer's primary group is known (SO_PEERCRED);
/// users with the group as a supplementary one pass the socket's mode (0660), and are refused here.
pub(super) fn may_connect(uid: u32, gid: u32, owner_uid: u32, owner_gid: u32) -> bool {
    gid == owner_gid || if uid == 0 { gid == 0 } else { uid == owner_uid }
}

/// Whether `file` is one of the two files that request memory reclaim of a cgroup.
pub(super) fn is_reclaim_file(file: &Path) -> bool {
    // Path traversal: no `..`, because the prefix check below compares components and does not resolve them.
    let plain = file.components().all(|c| matches!(c, Component::RootDir | Component::Normal(_)));
    let name = file.file_name().and_then(|name| name.to_str());
    plain && file.starts_with("/sys/fs/cgroup") && matches!(name, Some("memory.reclaim" | "memory.force_empty"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_platforms_user_group_and_root_may_connect() {
        for (uid, gid, may) in
            [(10, 99, true), (0, 0, true), (11, 20, true), (11, 21, false), (65534, 65534, false), (0, 30, false)]
        {
            assert_eq!(may_connect(uid, gid, 10, 20), may, "{uid}:{gid}");
        }
        // Under compose the provisioner is root with the platform's group, and so is the socket.
        assert!(may_connect(0, 20, 0, 20) && may_connect(10, 20, 0, 20) && !may_connect(0, 30, 0, 20));
    }

    #[test]
    fn only_files_that_reclaim_memory_are_written() {
        for (file, may) in [
            ("/sys/fs/cgroup/memory/berth/abc/memory.force_empty", true),
            ("/sys/fs/cgroup/berth.slice/docker-abc.scope/memory.reclaim", true),
            ("/sys/fs/cgroup/berth/memory.max", false),
            ("/sys/fs/cgroup/../../../etc/memory.reclaim", false),
            ("/etc/memory.reclaim", false),
        ] {
            assert_eq!(is_reclaim_file(Path::new(file)), may, "{file}");
        }
    }

    #[test]
    fn an_instances_address() {
        for (url, is) in [
            ("https://alice.localhost", true),
            ("https://alice.example.com:8443", true),
            ("http://alice.localhost", false),
            ("https://alice.localhost/path", false),
            ("https://alice@localhost", false),
            ("https://alice.localhost\nX=1", false),
            ("https://", false),
            ("https://alice.localhost:0", false),
        ] {
            assert_eq!(is_url(url), is, "{url}");
        }
    }
}
