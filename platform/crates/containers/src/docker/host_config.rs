//! The container configuration (sandbox) of every instance: privileges, limits, mounts and environment. Nothing else
//! decides a tenant's privileges, and the caller can change only the fields of [`ContainerSpec`].

use std::collections::HashMap;

use berth_ground::ids::InstanceId;
use bollard::models::{
    ContainerCreateBody, EndpointIpamConfig, EndpointSettings, HostConfig, HostConfigLogConfig, Mount, MountType,
    MountVolumeOptions, NetworkingConfig, ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};

use super::labels;
use uuid::Uuid;

use crate::config::{ContainerConfig, InstanceSize};
use crate::{ContainerSpec, Slot, gateway};

/// The mount point of the volume, and `$HOME`.
pub(super) const HOME: &str = "/home/berth";
/// The user id and group id of every instance.
pub(super) const UID: u32 = 10001;
/// The time between SIGTERM and SIGKILL, in seconds.
pub(super) const STOP_SECONDS: i32 = 10;

const MIB: i64 = 1024 * 1024;

/// The complete create request, including its hash. `image_id` is the id to which the image's name refers on this host
/// now, so a rebuilt image gives another hash, and thereby another container.
pub(super) fn body(
    config: &ContainerConfig,
    spec: &ContainerSpec,
    size: &InstanceSize,
    image_id: &str,
    cgroup_parent: &str,
    volume: &str,
) -> ContainerCreateBody {
    let mut body = plain_body(config, spec, size, image_id, cgroup_parent, volume);
    let labels = body.labels.get_or_insert_default();
    labels.insert(labels::KIND.into(), kind(config, &spec.image, size, image_id, cgroup_parent));
    // Order: last, because the hash covers every other label.
    let hash = hash(&body);
    body.labels.get_or_insert_default().insert(labels::SPEC_HASH.into(), hash);
    body
}

/// The hash of the create request without the instance's own values. Containers with the same hash have the same image
/// and limits.
pub(super) fn kind(
    config: &ContainerConfig,
    image: &str,
    size: &InstanceSize,
    image_id: &str,
    cgroup_parent: &str,
) -> String {
    let blank = ContainerSpec {
        instance: InstanceId(Uuid::nil()),
        slot: Slot(0),
        image: image.to_owned(),
        image_id: None,
        size: size.name.clone(),
        handle: String::new(),
        url: String::new(),
        token: String::new(),
    };
    hash(&plain_body(config, &blank, size, image_id, cgroup_parent, ""))
}

fn hash(body: &ContainerCreateBody) -> String {
    labels::hash_of(&serde_json::to_value(body).expect("a create body is plain JSON"))
}

fn plain_body(
    config: &ContainerConfig,
    spec: &ContainerSpec,
    size: &InstanceSize,
    image_id: &str,
    cgroup_parent: &str,
    volume: &str,
) -> ContainerCreateBody {
    let network = bridge_name(config, spec.slot.bridge());
    let address = spec.slot.address(config.subnet).to_string();
    let mut labels = labels::of_container(&config.network, spec, image_id);
    labels.insert(labels::VOLUMES.into(), config.volumes_dir.display().to_string());
    let endpoint = EndpointSettings {
        ipam_config: Some(EndpointIpamConfig { ipv4_address: Some(address), ..Default::default() }),
        ..Default::default()
    };
    ContainerCreateBody {
        image: Some(image_id.to_owned()),
        hostname: Some(spec.handle.clone()),
        user: Some(format!("{UID}:{UID}")),
        env: Some(environment(config, spec)),
        labels: Some(labels),
        stop_signal: Some("SIGTERM".into()),
        stop_timeout: Some(STOP_SECONDS.into()),
        networking_config: Some(NetworkingConfig {
            endpoints_config: Some(HashMap::from([(network.clone(), endpoint)])),
        }),
        host_config: Some(host_config(config, spec, size, cgroup_parent, volume, network)),
        ..Default::default()
    }
}

/// The name of a bridge, both as Docker network and as interface of the host.
pub(super) fn bridge_name(config: &ContainerConfig, bridge: u32) -> String {
    format!("{}{bridge}", config.network)
}

/// Deliberately absent, because they cannot be set for one container, or not on every host:
/// - block I/O limits: they name a whole disk as the Engine sees it, which a provisioner in a container cannot look up,
///   and which does not exist below LVM, btrfs or a loop mount; on cgroup v1 they exclude writes through the page
///   cache, which are nearly all. An operator can set them on the parent cgroup;
/// - a limit on file size: the volume's limit bounds files too, and databases make sparse files far larger than their
///   contents;
/// - user namespaces (`userns-remap`): a setting of the whole Engine, which its newest image store does not support;
/// - AppArmor: the Engine applies `docker-default` by itself where the kernel has AppArmor, and naming it elsewhere
///   fails;
/// - `StorageOpt size`: works only on XFS with project quotas, and the root file system is read-only anyway;
/// - `MemorySwappiness`: exists only on cgroup v1, and the default of 60 does reclaim memory.
fn host_config(
    config: &ContainerConfig,
    spec: &ContainerSpec,
    size: &InstanceSize,
    cgroup_parent: &str,
    volume: &str,
    network: String,
) -> HostConfig {
    let memory = i64::from(size.memory_mib) * MIB;
    HostConfig {
        cap_drop: Some(vec!["ALL".into()]),
        // Without a seccomp entry the Engine applies its default profile.
        security_opt: Some(vec!["no-new-privileges:true".into()]),
        privileged: Some(false),
        readonly_rootfs: Some(true),
        tmpfs: Some(HashMap::from([
            ("/tmp".into(), "rw,noexec,nosuid,nodev,size=64m".into()),
            ("/run".into(), format!("rw,noexec,nosuid,nodev,size=16m,mode=0755,uid={UID},gid={UID}")),
        ])),
        mounts: Some(vec![Mount {
            target: Some(HOME.into()),
            source: Some(volume.to_owned()),
            typ: Some(MountType::VOLUME),
            read_only: Some(false),
            // The Engine creates a missing volume; with these labels we recognize it.
            volume_options: Some(MountVolumeOptions {
                labels: Some(labels::of_volume(&config.network, spec.instance)),
                ..Default::default()
            }),
            ..Default::default()
        }]),
        memory: Some(memory),
        // The Engine's `memory_swap` is memory plus swap. Without a surplus, a frozen instance could not be swapped
        // out.
        memory_swap: Some(memory + i64::from(size.swap_mib) * MIB),
        memory_reservation: Some(memory.min(128 * MIB)),
        // When the host runs out of memory, the OOM killer selects instances before Berth or the Engine.
        oom_score_adj: Some(500),
        oom_kill_disable: Some(false),
        nano_cpus: Some(size.nano_cpus),
        cpu_shares: Some(256),
        pids_limit: Some(size.pids.into()),
        ulimits: Some(vec![ulimit("nofile", 4096), ulimit("core", 0)]),
        shm_size: Some(64 * MIB),
        log_config: Some(HostConfigLogConfig {
            typ: Some("local".into()),
            config: Some(HashMap::from([("max-size".into(), "5m".into()), ("max-file".into(), "2".into())])),
        }),
        init: Some(true),
        runtime: Some(config.runtime.name().to_owned()),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        cgroup_parent: Some(cgroup_parent.to_owned()),
        network_mode: Some(network),
        // No published ports: the host reaches a container's address directly.
        port_bindings: None,
        publish_all_ports: Some(false),
        ipc_mode: Some("private".into()),
        extra_hosts: Some(vec![format!("berth.internal:{}", gateway(config.subnet, spec.slot.bridge()))]),
        ..Default::default()
    }
}

fn ulimit(name: &str, value: i64) -> ResourcesUlimits {
    ResourcesUlimits { name: Some(name.into()), soft: Some(value), hard: Some(value) }
}

/// The environment of an instance, as in the contract (instance-image/README.md). The providers' official SDKs read
/// these variables.
fn environment(config: &ContainerConfig, spec: &ContainerSpec) -> Vec<String> {
    let quota = format!("http://berth.internal:{}", config.quota_port);
    vec![
        format!("HOME={HOME}"),
        "PORT=8080".into(),
        format!("BERTH_HANDLE={}", spec.handle),
        format!("BERTH_URL={}", spec.url),
        format!("BERTH_QUOTA_URL={quota}"),
        format!("ANTHROPIC_BASE_URL={quota}/anthropic"),
        format!("ANTHROPIC_API_KEY={}", spec.token),
        format!("OPENAI_BASE_URL={quota}/openai/v1"),
        format!("OPENAI_API_KEY={}", spec.token),
    ]
}
