//! Resource limits: one tenant exhausts processes, memory, disk, logs or sockets; its limits hold, its neighbour
//! answers, and the host can still create and stop containers. Latency under that load is measured in the benches.

use std::path::Path;
use std::process::Command;

use berth::config::DiskLimit;
use berth_containers::{ContainerSpec, ContainerState};

use berth_testing::container_hosts::{ContainerHosts, ask, docker_cli, name};
use berth_testing::wait::eventually;

async fn hostile_and_neighbour() -> (ContainerHosts, ContainerSpec, ContainerSpec) {
    let bench = ContainerHosts::engine_with(|config| config.disk_limit = DiskLimit::Image).await;
    let (hostile, neighbour) = (bench.running().await, bench.running().await);
    (bench, hostile, neighbour)
}

/// The neighbour answers and can write, the controller sees and changes things.
async fn neighbour_is_unaffected(bench: &ContainerHosts, neighbour: &ContainerSpec) {
    assert_eq!(ask(neighbour, "healthz").await, "ok");
    assert_eq!(ask(neighbour, "write/home/berth/note").await, "written");
    assert_eq!(bench.state(neighbour).await, Some(ContainerState::Running));
    assert!(bench.host.list().await.unwrap().len() >= 2);
    bench.host.freeze(neighbour.instance).await.unwrap();
    bench.host.thaw(neighbour.instance).await.unwrap();
    assert_eq!(ask(neighbour, "read/home/berth/note").await, "written");
}

/// How many succeeded before a limit was met.
fn limited(answer: &str) -> u64 {
    let (made, error) = answer.split_once(' ').unwrap_or((answer, ""));
    assert!(!error.is_empty() && error != "all", "no limit was met: {answer}");
    made.parse().unwrap()
}

#[tokio::test]
async fn a_fork_bomb_is_limited_to_its_own_container() {
    let (bench, hostile, neighbour) = hostile_and_neighbour().await;
    let made = limited(&ask(&hostile, "fork/1000").await);
    assert!(made < 64, "{made} processes, of 64 that it may have with its threads and init");
    neighbour_is_unaffected(&bench, &neighbour).await;
    bench.host.stop(hostile.instance).await.unwrap();
    assert_eq!(bench.state(&hostile).await, Some(ContainerState::Stopped), "and it can be stopped");
}

#[tokio::test]
async fn exhausted_memory_kills_only_the_container_that_used_it() {
    let (bench, hostile, neighbour) = hostile_and_neighbour().await;
    ask(&hostile, "eat/2048").await;
    eventually("it has ended", async || bench.state(&hostile).await == Some(ContainerState::Stopped)).await;
    assert!(bench.seen(&hostile).await.container.unwrap().exit.unwrap().out_of_memory);
    neighbour_is_unaffected(&bench, &neighbour).await;
}

#[tokio::test]
async fn a_full_volume_affects_only_its_owner() {
    let (bench, hostile, neighbour) = hostile_and_neighbour().await;
    let made = limited(&ask(&hostile, "stuff/home/berth/stuff").await);
    assert!(made < 64, "{made} MiB in a volume of 64");
    neighbour_is_unaffected(&bench, &neighbour).await;
    assert_eq!(ask(&hostile, "remove/home/berth/stuff").await, "removed");
    let files = limited(&ask(&hostile, "litter/home/berth/litter").await);
    assert!(files < 3000, "{files} files in a volume of 64 MiB");
    neighbour_is_unaffected(&bench, &neighbour).await;
    // Nothing that it holds on the host's own disk is larger than its size.
    let file = bench.dir.path().join("volumes").join(format!("{}.ext4", name(&hostile)));
    let held = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(file).unwrap()) * 512;
    assert!(held <= 64 << 20, "{held} bytes");
}

#[tokio::test]
async fn a_flood_of_logs_is_cut_to_the_last_ten_mib() {
    let (bench, hostile, neighbour) = hostile_and_neighbour().await;
    assert_eq!(ask(&hostile, "log/200").await, "logged");
    neighbour_is_unaffected(&bench, &neighbour).await;
    let id = docker_cli(&["inspect", "--format", "{{.Id}}", &name(&hostile)]);
    let root = docker_cli(&["info", "--format", "{{.DockerRootDir}}"]);
    let folder = Path::new(root.trim()).join("containers").join(id.trim());
    let told = Command::new("du").args(["-sk", folder.to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let kib: u64 = told.split_whitespace().next().unwrap().parse().unwrap();
    assert!((1..12 * 1024).contains(&kib), "{kib} KiB of logs are kept of 200 MiB");
}

#[tokio::test]
async fn one_container_cannot_open_fifty_thousand_sockets() {
    let (bench, hostile, neighbour) = hostile_and_neighbour().await;
    let made = limited(&ask(&hostile, "sockets/50000").await);
    assert!(made <= 4096, "{made} sockets in one process");
    neighbour_is_unaffected(&bench, &neighbour).await;
}
