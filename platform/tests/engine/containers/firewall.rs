//! Our nftables table on a real kernel: it is there before anything runs, comes back when it is taken, and without it
//! nothing is started.

use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use berth::config::ContainerConfig;
use berth_containers::docker::DockerHost;
use berth_containers::{ContainerHost as _, HostError};
use berth_ground::clock::Clock;

use berth_testing::container_hosts::{ContainerHosts, config, docker, refuses_with};
use berth_testing::tenant_image::forget_firewall;

/// Another installation than the other tests', because its table is taken away here.
const NETWORK: &str = "ctestfw";
const TABLE: &str = "instances-ctestfw";

#[tokio::test]
async fn the_table_is_set_once_and_mended_when_it_is_gone_or_changed() {
    let bench = ContainerHosts::engine().await;
    let _gone = Gone;
    let host = docker(other(&bench));
    let report = host.host_report().await.unwrap();
    assert!(report.egress.is_err() && report.neighbours.is_err(), "{report:?}");
    host.ensure_networks().await.unwrap();
    let report = host.host_report().await.unwrap();
    assert_eq!((report.egress, report.neighbours), (Ok(()), Ok(())));

    let handle = handle_of_table();
    host.ensure_networks().await.unwrap();
    assert_eq!(handle_of_table(), handle, "it was set anew, and forgot what it had counted");

    for harm in [format!("delete table inet {TABLE}"), format!("flush chain inet {TABLE} from_instance")] {
        nft(&harm);
        let egress = host.host_report().await.unwrap().egress;
        assert!(egress.is_err_and(|sentence| sentence.contains(TABLE)), "{harm}");
        host.ensure_networks().await.unwrap();
        assert_eq!(host.host_report().await.unwrap().egress, Ok(()), "{harm}");
    }
}

#[tokio::test]
async fn without_the_rules_nothing_is_started() {
    let bench = ContainerHosts::engine().await;
    let spec = bench.spec();
    bench.host.create(&spec).await.unwrap();
    let dir = bench.dir.path();
    let refusing = dir.join("nft");
    std::fs::write(&refusing, "#!/bin/sh\necho 'Error: Operation not permitted' >&2\nexit 1\n").unwrap();
    std::fs::set_permissions(&refusing, std::fs::Permissions::from_mode(0o755)).unwrap();
    for (nft, words) in [(dir.join("none"), "cannot be run"), (refusing, "Operation not permitted")] {
        let host =
            DockerHost::connect_with(config(dir), Clock::system(), "/var/run/docker.sock".into(), "/bin/false".into())
                .with_nft(nft);
        refuses_with(host.ensure_networks().await, words);
        refuses_with(host.start(spec.instance).await, words);
        let egress = host.host_report().await.unwrap().egress;
        assert!(egress.is_err_and(|sentence| sentence.contains(words)), "{words}");
    }
    assert_eq!(bench.state(&spec).await, Some(berth_containers::ContainerState::Stopped));
    // The same container starts where the rules can be set.
    assert_eq!(bench.host.start(spec.instance).await, Ok::<(), HostError>(()));
}

fn other(bench: &ContainerHosts) -> ContainerConfig {
    let mut other = config(bench.dir.path());
    other.network = NETWORK.into();
    other.subnet = Ipv4Addr::new(10, 96, 0, 0);
    other
}

/// The kernel's number of the table: another one has another.
fn handle_of_table() -> String {
    let list = nft(&format!("--handle --terse list table inet {TABLE}"));
    list.lines().next().unwrap().to_owned()
}

fn nft(words: &str) -> String {
    let done = Command::new("nft").args(words.split(' ')).output().expect("these tests need nft");
    assert!(done.status.success(), "nft {words}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}

/// Takes what this installation made away.
struct Gone;

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = Command::new("docker").args(["network", "rm", "ctestfw0"]).output();
        forget_firewall(NETWORK);
    }
}
