//! What a tenant's program cannot do, tried from inside a real container: reach anything but the internet and the quota
//! proxy, be more than a plain user, or be changed without being noticed.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use berth::config::ContainerRuntime;
use berth_containers::ContainerHost as _;
use tokio::net::TcpListener;

use super::lab::{FORBIDDEN, INTERNET, Lab, PORTS};
use berth_testing::container_hosts::{
    BARE, ContainerHosts, WITH_HOME, address, ask, config, docker, docker_cli, name, refuses_with,
};
use berth_testing::wait::eventually;

/// The first bridge's own address, where the quota proxy listens and nothing else is to be reached.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 97, 0, 1);
const QUOTA: u16 = 8702;
/// Ports of this host that would be worth reaching: SSH, names, Caddy and its admin, Docker, databases, Berth's own.
const TEMPTING: [u16; 12] = [22, 53, 80, 443, 2019, 2375, 2376, 5432, 6379, 8700, 8701, 8703];

#[tokio::test]
async fn a_tenant_reaches_the_internet_and_the_quota_proxy_and_nothing_else() {
    let bench = ContainerHosts::engine().await;
    let lab = Lab::set_up().await;
    let (tenant, sibling) = (bench.running().await, bench.running().await);
    assert_eq!(ask(&sibling, "healthz").await, "ok");
    let _quota = TcpListener::bind((GATEWAY, QUOTA)).await.unwrap();
    // A service of the host's on every address, as SSH is, and one on the bridge alone.
    let everywhere = TcpListener::bind(("0.0.0.0", 0)).await.unwrap().local_addr().unwrap().port();
    let _everywhere = TcpListener::bind(("0.0.0.0", everywhere)).await.unwrap();
    let beside_quota = TcpListener::bind((GATEWAY, 0)).await.unwrap();

    let mut hosts = vec![IpAddr::from(GATEWAY), [172, 31, 250, 1].into(), [127, 0, 0, 1].into()];
    hosts.extend(own_address());
    let mut forbidden = vec![address(&sibling).to_string(), beside_quota.local_addr().unwrap().to_string()];
    for host in &hosts {
        forbidden.extend(TEMPTING.iter().chain([&everywhere]).map(|port| format!("{host}:{port}")));
    }
    let ports: Vec<u16> = PORTS.split(',').map(|port| port.parse().unwrap()).collect();
    for there in FORBIDDEN {
        forbidden.extend(ports.iter().map(|port| format!("{there}:{port}")));
    }
    forbidden.extend([25, 465, 587, 2375, 2376].map(|port| format!("{INTERNET}:{port}")));
    forbidden.extend(["[fd00:ec2::254]:80".to_owned(), format!("[::ffff:{}]:80", FORBIDDEN[0])]);
    let allowed = [format!("{GATEWAY}:{QUOTA}"), format!("{INTERNET}:80"), format!("{INTERNET}:443")];

    // Each of these answers the host, or not reaching it would prove nothing.
    for there in FORBIDDEN.iter().chain([&INTERNET]) {
        for port in &ports {
            assert!(lab.answers(there, *port).await, "{there}:{port} does not answer the host");
        }
    }
    for host in &hosts {
        assert!(lab.answers(&host.to_string(), everywhere).await, "{host}:{everywhere} does not answer the host");
    }

    for some in forbidden.chunks(24) {
        assert_eq!(ask(&tenant, &format!("reach/{}", some.join(","))).await, "", "of {some:?}");
    }
    for place in &allowed {
        assert_eq!(ask(&tenant, &format!("reach/{place}")).await, *place);
    }
    for socket in ["var/run/docker.sock", "run/docker.sock", "run/containerd/containerd.sock"] {
        assert!(ask(&tenant, &format!("read/{socket}")).await.starts_with("error: No such file"), "{socket}");
    }
}

#[tokio::test]
async fn names_are_asked_where_the_host_asks_them() {
    let bench = ContainerHosts::engine().await;
    let tenant = bench.running().await;
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let servers = text.lines().filter_map(|line| line.strip_prefix("nameserver ")?.trim().parse::<Ipv4Addr>().ok());
    for server in servers.filter(|server| !server.is_loopback()) {
        // One that does not answer the host says nothing about the way there.
        if host_is_answered(server) {
            assert_eq!(ask(&tenant, &format!("name/{server}:53")).await, "answered true", "{server}");
        }
        assert_eq!(ask(&tenant, &format!("reach/{server}:80,{server}:22,{server}:443")).await, "", "{server}");
    }
}

#[tokio::test]
async fn one_tenant_does_not_fill_the_hosts_table_of_connections() {
    let bench = ContainerHosts::engine().await;
    let _lab = Lab::set_up().await;
    let (loud, quiet) = (bench.running().await, bench.running().await);
    let arrived = || async { lab_counts().await };
    let before = arrived().await;
    assert_eq!(ask(&loud, &format!("crowd/{INTERNET}:80/1000")).await, "sent");
    eventually("the burst has arrived", async || arrived().await >= before + 50).await;
    assert_eq!(ask(&quiet, &format!("crowd/{INTERNET}:80/20")).await, "sent");
    let after = arrived().await - before;
    assert!((50..500).contains(&after), "{after} of 1000 connections in a moment went through");
}

#[tokio::test]
async fn a_container_that_was_changed_from_outside_is_found() {
    let bench = ContainerHosts::engine().await;
    let kept = bench.running().await;
    let (lifted, moved) = (bench.running().await, bench.running().await);
    bench.host.freeze(kept.instance).await.unwrap();
    let named = |changed: &[String], spec| changed.iter().find(|line| line.starts_with(&name(spec))).cloned();
    let found = bench.host.host_report().await.unwrap().containers;
    assert!(found.as_made >= 3, "{found:?}");
    for spec in [&kept, &lifted, &moved] {
        assert_eq!(named(&found.changed, spec), None);
    }

    docker_cli(&["update", "--pids-limit", "1000", &name(&lifted)]);
    let elsewhere = ["--subnet", "10.97.252.0/24", "--label", "berth.installation=ctest", "ctest-elsewhere"];
    docker_cli(&[&["network", "create"], &elsewhere[..]].concat());
    docker_cli(&["network", "connect", "ctest-elsewhere", &name(&moved)]);
    let found = bench.host.host_report().await.unwrap().containers;
    assert_eq!(named(&found.changed, &lifted), Some(format!("{} (PidsLimit)", name(&lifted))));
    assert_eq!(named(&found.changed, &moved), Some(format!("{} (Networks)", name(&moved))));
    assert_eq!(named(&found.changed, &kept), None);
    docker_cli(&["network", "disconnect", "ctest-elsewhere", &name(&moved)]);
    docker_cli(&["network", "rm", "ctest-elsewhere"]);
}

#[tokio::test]
async fn a_tenants_program_has_no_privileges() {
    let bench = ContainerHosts::engine().await;
    for image in [WITH_HOME, BARE] {
        let mut spec = bench.spec();
        spec.image = image.into();
        bench.run(&spec).await;
        let status = ask(&spec, "status").await;
        for line in [
            "Uid:\t10001\t10001\t10001\t10001",
            "Gid:\t10001\t10001\t10001\t10001",
            "CapInh:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "CapEff:\t0000000000000000",
            "CapBnd:\t0000000000000000",
            "CapAmb:\t0000000000000000",
            "NoNewPrivs:\t1",
            "Seccomp:\t2",
        ] {
            assert!(status.lines().any(|there| there == line), "{line:?} is not in the status of {image}:\n{status}");
        }
        assert!(!status.contains("Groups:\t0"), "{status}");
        for place in
            ["proc/sys/kernel/hostname", "proc/sysrq-trigger", "sys/fs/cgroup/memory/memory.limit_in_bytes", "dev/mem"]
        {
            assert!(ask(&spec, &format!("write/{place}")).await.starts_with("error"), "/{place} of {image}");
        }
    }
}

#[tokio::test]
async fn an_image_that_is_not_the_pinned_one_is_refused() {
    let bench = ContainerHosts::engine().await;
    let id = docker_cli(&["inspect", "--format", "{{.Id}}", WITH_HOME]).trim().to_owned();
    let mut pinned = config(bench.dir.path());
    pinned.image_pins.insert(WITH_HOME.into(), id);
    pinned.image_pins.insert(BARE.into(), format!("sha256:{}", "0".repeat(64)));
    let host = docker(pinned);
    let mut spec = bench.spec();
    host.create(&spec).await.unwrap();
    spec.image = BARE.into();
    refuses_with(host.create(&spec).await, "BERTH_IMAGES pins");
    assert_eq!(host.host_report().await.unwrap().other_images, [BARE]);
    let kept = bench.seen(&spec).await.container.unwrap();
    assert_eq!(kept.image, WITH_HOME);
}

#[tokio::test]
async fn a_runtime_that_the_engine_does_not_have_runs_nothing() {
    let bench = ContainerHosts::engine().await;
    let mut other = config(bench.dir.path());
    other.runtime = ContainerRuntime::Runsc;
    let host = docker(other);
    let report = host.host_report().await.unwrap();
    assert!(report.runtimes.iter().any(|runtime| runtime == "runc"), "{:?}", report.runtimes);
    let spec = bench.spec();
    let made = host.create(&spec).await;
    if report.runtimes.iter().any(|runtime| runtime == "runsc") {
        made.unwrap();
        let there = docker_cli(&["inspect", "--format", "{{.HostConfig.ContainerRuntime}}", &name(&spec)]);
        assert_eq!(there.trim(), "runsc");
    } else {
        assert!(format!("{made:?}").contains("runsc"), "{made:?}");
        assert_eq!(bench.seen(&spec).await.container, None);
    }
}

/// The address by which others reach this host; `None` where it has no way out.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.99:9").ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn host_is_answered(server: Ipv4Addr) -> bool {
    let question = [7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1];
    let asked = || {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(std::time::Duration::from_secs(3)))?;
        socket.send_to(&question, (server, 53))?;
        socket.recv(&mut [0; 1500])
    };
    asked().is_ok()
}

/// Datagrams that the lab's server got so far.
async fn lab_counts() -> u64 {
    let answer =
        berth_testing::container_hosts::ask_at((INTERNET.parse::<Ipv4Addr>().unwrap(), 80).into(), "datagrams").await;
    answer.parse().unwrap()
}
