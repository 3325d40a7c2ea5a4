//! A network beside the host that stands for everything an instance may want to reach: the metadata service, a
//! neighbour in the company's network, a server on the internet. It is a network namespace of the test's own.

use std::process::{Child, Command, Stdio};

use tokio::sync::{Mutex, MutexGuard};

use berth_testing::container_hosts::compile_tenant;
use berth_testing::wait::eventually;

/// The only address of the lab that is one on the internet (a documentation network, RFC 5737, which nothing here
/// uses).
pub const INTERNET: &str = "203.0.113.80";
/// Addresses in the lab that no instance may reach.
pub const FORBIDDEN: [&str; 8] = [
    // Metadata: AWS, Google, Azure and most others; Alibaba; Oracle's older one.
    "169.254.169.254",
    "100.100.100.200",
    "192.0.0.192",
    // Neighbours in each private network, and in the one for benchmarks.
    "172.31.250.2",
    "10.250.250.2",
    "192.168.250.2",
    "172.18.250.2",
    "198.18.250.2",
];
/// Where the lab's server listens on each of its addresses.
pub const PORTS: &str = "80,443,22,25,465,587,2375,2376,5432,8080";

/// Its own namespace, cable and server, all gone when dropped.
pub struct Lab {
    _dir: tempfile::TempDir,
    server: Child,
    _alone: MutexGuard<'static, ()>,
}

impl Lab {
    /// One at a time, because its addresses are there once.
    pub async fn set_up() -> Self {
        static ALONE: Mutex<()> = Mutex::const_new(());
        let alone = ALONE.lock().await;
        tear_down();
        let dir = tempfile::tempdir().unwrap();
        let tenant = dir.path().join("tenant");
        compile_tenant(&tenant);
        ip("netns add ctestlab");
        ip("link add ctestlab0 type veth peer name ctestlab1 netns ctestlab");
        ip("address add 172.31.250.1/24 dev ctestlab0");
        ip("link set ctestlab0 up");
        ip("-n ctestlab link set lo up");
        ip("-n ctestlab address add 172.31.250.2/24 dev ctestlab1");
        ip("-n ctestlab link set ctestlab1 up");
        ip("-n ctestlab route add default via 172.31.250.1");
        for address in FORBIDDEN.iter().chain([&INTERNET]).filter(|address| **address != "172.31.250.2") {
            ip(&format!("-n ctestlab address add {address}/32 dev lo"));
            ip(&format!("route add {address}/32 via 172.31.250.2 dev ctestlab0"));
        }
        let server = Command::new("ip")
            .args(["netns", "exec", "ctestlab"])
            .arg(tenant)
            .env("PORT", PORTS)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let lab = Self { _dir: dir, server, _alone: alone };
        eventually("the lab's server answers", async || lab.answers(INTERNET, 80).await).await;
        lab
    }

    /// Whether the host reaches it, which it may.
    pub async fn answers(&self, address: &str, port: u16) -> bool {
        let connecting = tokio::net::TcpStream::connect((address, port));
        tokio::time::timeout(std::time::Duration::from_secs(2), connecting).await.is_ok_and(|done| done.is_ok())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        tear_down();
    }
}

/// The cable, and every route over it, goes with the namespace.
fn tear_down() {
    for words in [["netns", "delete", "ctestlab"], ["link", "delete", "ctestlab0"]] {
        let _ = Command::new("ip").args(words).stderr(Stdio::null()).status();
    }
}

fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().expect("these tests need the ip command");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}
