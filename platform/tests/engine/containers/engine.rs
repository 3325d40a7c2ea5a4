//! What only a real Engine shows: what an instance may do, what it is told, and what freezing does to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use berth_containers::docker::DockerHost;
use berth_containers::{ContainerExit, ContainerHost as _, ContainerState, HostError};
use berth_ground::clock::Clock;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use berth_testing::container_hosts::{
    BARE, ContainerHosts, address, ask, config, docker, docker_cli, name, refuses_with,
};
use berth_testing::wait::eventually;

#[tokio::test]
async fn the_container_is_hardened_as_decided() {
    let bench = ContainerHosts::engine().await;
    let spec = bench.running().await;
    let there: Value = serde_json::from_str(&docker_cli(&["inspect", &name(&spec)])).unwrap();
    let (host, config) = (&there[0]["HostConfig"], &there[0]["Config"]);
    let systemd = docker_cli(&["info", "--format", "{{.CgroupDriver}}"]).trim() == "systemd";
    let mib = 1024 * 1024;
    for (field, wanted) in [
        ("CapDrop", json!(["ALL"])),
        ("CapAdd", Value::Null),
        ("SecurityOpt", json!(["no-new-privileges:true"])),
        ("Privileged", json!(false)),
        ("ReadonlyRootfs", json!(true)),
        (
            "Tmpfs",
            json!({
                "/tmp": "rw,noexec,nosuid,nodev,size=64m",
                "/run": "rw,noexec,nosuid,nodev,size=16m,mode=0755,uid=10001,gid=10001",
            }),
        ),
        ("PidsLimit", json!(64)),
        ("Memory", json!(64 * mib)),
        ("MemorySwap", json!(128 * mib)),
        ("MemoryReservation", json!(64 * mib)),
        ("OomScoreAdj", json!(500)),
        ("NanoCpus", json!(500_000_000)),
        ("CpuShares", json!(256)),
        ("Ulimits", json!([{"Name": "nofile", "Soft": 4096, "Hard": 4096}, {"Name": "core", "Soft": 0, "Hard": 0}])),
        ("ShmSize", json!(64 * mib)),
        ("LogConfig", json!({"Type": "local", "Config": {"max-size": "5m", "max-file": "2"}})),
        ("Init", json!(true)),
        ("RestartPolicy", json!({"Name": "no", "MaximumRetryCount": 0})),
        ("CgroupParent", json!(if systemd { "berth.slice" } else { "/berth" })),
        ("NetworkMode", json!("ctest0")),
        ("IpcMode", json!("private")),
        ("PidMode", json!("")),
        ("UTSMode", json!("")),
        ("UsernsMode", json!("")),
        ("PortBindings", json!({})),
        ("PublishAllPorts", json!(false)),
        ("Binds", Value::Null),
        ("Devices", json!([])),
        ("VolumesFrom", Value::Null),
        ("ExtraHosts", json!(["berth.internal:10.97.0.1"])),
    ] {
        // The Engine writes nothing as null or as an empty list, as its version pleases.
        let empty = |value: &Value| value.is_null() || *value == json!([]) || *value == json!({});
        assert!(host[field] == wanted || empty(&host[field]) && empty(&wanted), "{field} is {}", host[field]);
    }
    assert_eq!((&config["User"], &config["StopSignal"]), (&json!("10001:10001"), &json!("SIGTERM")));
    let mounts = there[0]["Mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 1);
    assert_eq!((&mounts[0]["Type"], &mounts[0]["Destination"]), (&json!("volume"), &json!("/home/berth")));
    let status = ask(&spec, "status").await;
    for line in ["CapEff:\t0000000000000000", "CapBnd:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line:?} is not in\n{status}");
    }
}

#[tokio::test]
async fn it_is_told_what_the_contract_promises() {
    let bench = ContainerHosts::engine().await;
    let spec = bench.running().await;
    let told = ask(&spec, "env").await;
    for (name, value) in [
        ("HOME", "/home/berth"),
        ("PORT", "8080"),
        ("BERTH_HANDLE", "alice"),
        ("BERTH_URL", "https://alice.localhost"),
        ("BERTH_QUOTA_URL", "http://berth.internal:8702"),
        ("ANTHROPIC_BASE_URL", "http://berth.internal:8702/anthropic"),
        ("ANTHROPIC_API_KEY", &spec.token),
        ("OPENAI_BASE_URL", "http://berth.internal:8702/openai/v1"),
        ("OPENAI_API_KEY", &spec.token),
    ] {
        assert!(told.lines().any(|line| line == format!("{name}={value}")), "{name}={value} is not in\n{told}");
    }
    assert!(ask(&spec, "hosts").await.lines().any(|l| l.starts_with("10.97.0.1") && l.ends_with("berth.internal")));
}

#[tokio::test]
async fn home_is_writable_whatever_the_image_carries_and_nothing_else_is() {
    let bench = ContainerHosts::engine().await;
    for image in [berth_testing::container_hosts::WITH_HOME, BARE] {
        let mut spec = bench.spec();
        spec.image = image.into();
        bench.run(&spec).await;
        assert_eq!(ask(&spec, "write/home/berth/note").await, "written", "{image}");
        assert_eq!(ask(&spec, "write/tmp/note").await, "written", "{image}");
        for place in ["note", "etc/note", "home/note"] {
            assert!(ask(&spec, &format!("write/{place}")).await.starts_with("error"), "/{place} of {image}");
        }
        spec.token = "another-token".into();
        bench.run(&spec).await;
        assert_eq!(ask(&spec, "read/home/berth/note").await, "written", "{image}");
    }
}

#[tokio::test]
async fn a_frozen_one_goes_on_where_it_was() {
    let bench = ContainerHosts::engine().await;
    let spec = bench.running().await;
    assert_eq!((ask(&spec, "count").await.as_str(), ask(&spec, "count").await.as_str()), ("0", "1"));
    bench.host.freeze(spec.instance).await.unwrap();
    bench.host.thaw(spec.instance).await.unwrap();
    assert_eq!(ask(&spec, "count").await, "2");
}

#[tokio::test]
async fn a_frozen_ones_memory_goes_to_swap_where_there_is_any() {
    let bench = ContainerHosts::engine().await;
    let spec = bench.running().await;
    assert_eq!(ask(&spec, "eat/32").await, "eaten");
    let (_, usage) = memory_files(&name(&spec));
    let before = read_bytes(&usage);
    assert!(before > 32 << 20);
    bench.host.freeze(spec.instance).await.unwrap();
    if bench.host.host_report().await.unwrap().swap_mib > 0 {
        eventually("its memory has gone", async || read_bytes(&usage) < before / 2).await;
    } else {
        // Nowhere to go: it stays, and freezing went well all the same.
        assert!(read_bytes(&usage) > 32 << 20);
    }
    assert_eq!(bench.state(&spec).await, Some(ContainerState::Frozen));
    bench.host.thaw(spec.instance).await.unwrap();
    assert_eq!(ask(&spec, "healthz").await, "ok");
}

#[tokio::test]
async fn the_kernel_hands_a_frozen_ones_memory_back_when_asked() {
    // The pages of a file can go without any swap, so this holds on every host.
    let bench = ContainerHosts::engine().await;
    let spec = bench.running().await;
    assert_eq!(ask(&spec, "fill/home/berth/big").await, "filled");
    bench.host.freeze(spec.instance).await.unwrap();
    let (file, usage) = memory_files(&name(&spec));
    let before = read_bytes(&usage);
    assert!(before > 16 << 20, "{before}");
    // Pages still to be written stay until the disk has them.
    eventually("the file's pages have gone", async || {
        berth_provisioner::reclaim(&file, before).unwrap();
        read_bytes(&usage) < before / 2
    })
    .await;
    bench.host.thaw(spec.instance).await.unwrap();
    assert_eq!(ask(&spec, "healthz").await, "ok");
}

#[tokio::test]
async fn neighbours_cannot_reach_each_other_but_the_host_reaches_both() {
    let bench = ContainerHosts::engine().await;
    let (one, two) = (bench.running().await, bench.running().await);
    assert_eq!((ask(&one, "healthz").await.as_str(), ask(&two, "healthz").await.as_str()), ("ok", "ok"));
    for (from, to) in [(&one, &two), (&two, &one)] {
        let answer = ask(from, &format!("reach/{}", address(to))).await;
        assert_eq!(answer, "");
    }
    // The same question with an answer, or the refusals above would prove nothing.
    assert_eq!(ask(&one, &format!("reach/{}", address(&one))).await, address(&one).to_string());
}

#[tokio::test]
async fn how_it_ended_is_told() {
    let bench = ContainerHosts::engine().await;
    for (deed, exit) in [
        ("exit/7", ContainerExit { code: 7, out_of_memory: false }),
        ("eat/1024", ContainerExit { code: 137, out_of_memory: true }),
    ] {
        let spec = bench.running().await;
        ask(&spec, deed).await;
        eventually("it has ended", async || bench.state(&spec).await == Some(ContainerState::Stopped)).await;
        assert_eq!(bench.seen(&spec).await.container.unwrap().exit, Some(exit), "{deed}");
    }
}

#[tokio::test]
async fn a_container_that_is_not_ours_is_left_alone() {
    let bench = ContainerHosts::engine().await;
    let spec = bench.spec();
    docker_cli(&["create", "--name", &name(&spec), BARE]);
    let refused = bench.host.create(&spec).await;
    docker_cli(&["rm", &name(&spec)]);
    refuses_with(refused, "Berth did not make");
}

#[tokio::test]
async fn a_bridge_that_cannot_be_made_is_refused_by_name() {
    let bench = ContainerHosts::engine().await;
    let mut wide = config(bench.dir.path());
    wide.bridges = 2;
    // Another network in our subnet; one of our own name with another subnet; ours, but neighbours may talk.
    for (name, subnet, word) in [
        ("ctestclash", "10.97.4.0/23", "BERTH_SUBNET"),
        ("ctest1", "10.97.8.0/22", "10.97.8.0/22 instead of 10.97.4.0/22"),
        ("ctest1", "10.97.4.0/22", "another BERTH_NETWORK"),
    ] {
        docker_cli(&["network", "create", "--subnet", subnet, "--label", "berth.installation=ctest", name]);
        let refused = docker(wide.clone()).ensure_networks().await;
        docker_cli(&["network", "rm", name]);
        refuses_with(refused, word);
    }
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_unreachable() {
    let dir = tempfile::tempdir().unwrap();
    let spec = ContainerHosts::fake().await.spec();
    for socket in [dir.path().join("none.sock"), dead_socket(dir.path())] {
        let clock = Clock::system();
        let host = Arc::new(DockerHost::connect_with(config(dir.path()), clock, socket, "/bin/false".into()));
        assert_eq!(host.create(&spec).await, Err(HostError::Unreachable));
        assert_eq!(host.list().await, Err(HostError::Unreachable));
        assert_eq!(host.events().await.err(), Some(HostError::Unreachable));
    }
}

#[tokio::test]
async fn an_engine_that_hangs_is_given_up_in_time() {
    // One that accepts and says nothing, and one that stops in the middle of an answer.
    for said in ["", "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n["] {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("engine.sock");
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        tokio::spawn(async move {
            let mut held = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = stream.write_all(said.as_bytes()).await;
                held.push(stream);
            }
        });
        let host = DockerHost::connect_with(config(dir.path()), Clock::system(), socket, "/bin/false".into());
        let id = ContainerHosts::fake().await.spec().instance;
        let (list, inspect) = tokio::join!(host.list(), host.inspect(id));
        assert_eq!((list, inspect), (Err(HostError::Timeout), Err(HostError::Timeout)), "{said}");
    }
}

/// A socket without a listener.
fn dead_socket(dir: &Path) -> PathBuf {
    let path = dir.join("dead.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    path
}

/// Where to ask for a container's memory, and where to read what it uses.
fn memory_files(name: &str) -> (PathBuf, PathBuf) {
    let pid = docker_cli(&["inspect", "--format", "{{.State.Pid}}", name]);
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.trim())).unwrap();
    let path = |mark: &str| cgroups.lines().find_map(|line| line.split_once(mark).map(|(_, path)| path.to_owned()));
    if let Some(path) = path(":memory:") {
        let cgroup = PathBuf::from(format!("/sys/fs/cgroup/memory{path}"));
        return (cgroup.join("memory.force_empty"), cgroup.join("memory.usage_in_bytes"));
    }
    let cgroup = PathBuf::from(format!("/sys/fs/cgroup{}", path("0::").unwrap()));
    (cgroup.join("memory.reclaim"), cgroup.join("memory.current"))
}

fn read_bytes(file: &Path) -> u64 {
    std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
}
