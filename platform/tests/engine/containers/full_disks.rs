//! Full disks, on each file system of an installation: new work is refused with a sentence, nothing crashes, and work
//! continues without intervention once space is free.

use std::path::{Path, PathBuf};
use std::process::Command;

use berth::config::DiskLimit;
use berth_containers::docker::DockerHost;
use berth_containers::{ContainerHost as _, ContainerState, HostError};
use berth_ground::error::Error;

use berth_testing::container_hosts::{ContainerHosts, WITH_HOME, ask, config, docker_cli};
use berth_testing::docker_engine::OwnBridge;
use berth_testing::provisioner::provisioner_binary;
use berth_testing::tenant_image::forget_firewall;
use berth_testing::wait::eventually;
use berth_testing::{TestModules, databases};

/// A small file system for one test, removed when it is dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn at(folder: &Path, mib: u32) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let options = format!("size={mib}m,mode=0700");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "story"]).arg(folder).status().unwrap();
        assert!(mounted.success(), "these stories mount small file systems, which needs root");
        Self(folder.to_owned())
    }

    /// Writes a file that leaves `left_percent` free.
    fn fill(&self, left_percent: u64) {
        let _ = std::fs::remove_file(self.0.join("filler"));
        let disk = room(&self.0);
        let keep = disk.1 / 100 * left_percent;
        let bytes = disk.0.saturating_sub(keep);
        let file = std::fs::File::create(self.0.join("filler")).unwrap();
        let mut written = 0;
        let chunk = vec![1_u8; 1 << 16];
        while written < bytes {
            let rest = usize::try_from(bytes - written).unwrap().min(chunk.len());
            let Ok(n) = std::io::Write::write(&mut &file, &chunk[..rest]) else {
                return;
            };
            written += n as u64;
        }
    }

    fn free(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Free and whole bytes, as `df` tells them.
fn room(folder: &Path) -> (u64, u64) {
    let told = Command::new("df").args(["--output=avail,size", "-B1"]).arg(folder).output().unwrap();
    let told = String::from_utf8(told.stdout).unwrap();
    let mut numbers = told.lines().nth(1).unwrap().split_whitespace().map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[tokio::test]
async fn a_full_disk_under_the_database_refuses_a_sign_up_until_space_is_free() {
    for database in databases().await {
        if database.kind != "SQLite" {
            // PostgreSQL's disk is PostgreSQL's own matter; how its error is told is in `quota.rs`.
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        let disk = SmallDisk::at(&folder.path().join("data"), 8);
        let url = format!("sqlite:{}", folder.path().join("data/berth.db").display());
        let db = berth::db::Db::open_and_migrate(&url).await.unwrap();
        let platform = TestModules::with(database.moved_to(url, db), &[]).await;
        platform.accounts.setup_link().await.unwrap();
        disk.fill(0);
        // The database file has some free pages left: they are used up first.
        let mut refused = None;
        for _ in 0..200 {
            if let Err(error) = platform.accounts.log_in_challenge(&berth_testing::somebody()).await {
                refused = Some(error);
                break;
            }
        }
        match refused {
            Some(Error::Unavailable { message, .. }) => {
                assert!(message.starts_with("The server's disk is full"), "{message}")
            }
            other => panic!("{other:?}"),
        }
        // Reading goes on.
        assert!(platform.accounts.accounts().await.unwrap().is_empty());
        disk.free();
        platform.accounts.log_in_challenge(&berth_testing::somebody()).await.unwrap();
    }
}

#[tokio::test]
async fn a_disk_that_fills_up_refuses_new_volumes_at_80_and_starts_at_90_percent_and_loses_no_file() {
    let bench = ContainerHosts::engine_with(|config| config.disk_limit = DiskLimit::Image).await;
    let disk = SmallDisk::at(&bench.dir.path().join("volumes"), 256);
    let (existing, newcomer) = (bench.running().await, bench.spec());
    assert_eq!(ask(&existing, "write/home/berth/note").await, "written");

    // From 80 % on no new volume is made; existing instances run, and start again.
    disk.fill(15);
    assert_eq!(bench.host.ensure_volume(newcomer.instance, &newcomer.size).await, Err(HostError::DiskFull));
    assert!(HostError::DiskFull.message_for_user().contains("disk is full"));
    assert_eq!(ask(&existing, "healthz").await, "ok");
    bench.host.stop(existing.instance).await.unwrap();
    bench.host.start(existing.instance).await.unwrap();

    // From 90 % on no instance starts.
    bench.host.stop(existing.instance).await.unwrap();
    disk.fill(5);
    assert_eq!(bench.host.start(existing.instance).await, Err(HostError::DiskFull));
    assert_eq!(bench.state(&existing).await, Some(ContainerState::Stopped));
    let report = bench.host.host_report().await.unwrap();
    assert!(report.disks.iter().any(|disk| disk.holds.contains("volumes") && disk.used_percent >= 90), "{report:?}");

    // With space free again, everything continues without intervention.
    disk.free();
    bench.host.start(existing.instance).await.unwrap();
    assert_eq!(ask(&existing, "read/home/berth/note").await, "written");
    bench.run(&newcomer).await;
    assert_eq!(ask(&newcomer, "healthz").await, "ok");

    // Full to the last byte while they run: files that reached the disk are there after the next start, whatever became
    // of the file systems above.
    disk.fill(0);
    let told = ask(&newcomer, "fill/home/berth/big").await;
    tokio::task::yield_now().await;
    assert_eq!(bench.state(&existing).await, Some(ContainerState::Running), "{told}");
    for spec in [&existing, &newcomer] {
        bench.host.stop(spec.instance).await.unwrap();
    }
    disk.free();
    for spec in [&existing, &newcomer] {
        eventually("it starts again", async || bench.host.start(spec.instance).await.is_ok()).await;
        assert_eq!(ask(spec, "write/home/berth/after").await, "written");
    }
    assert_eq!(ask(&existing, "read/home/berth/note").await, "written");
}

/// An Engine for one test, because filling the machine's own would break the others.
struct OwnEngine {
    process: std::process::Child,
    socket: PathBuf,
    _bridge: OwnBridge,
}

impl OwnEngine {
    /// With its data in `data`, and the test image on it.
    async fn start(folder: &Path, data: &Path) -> Self {
        let bridge = OwnBridge::make();
        let socket = folder.join("engine.sock");
        let process = Command::new("dockerd")
            .arg("--data-root")
            .arg(data)
            .arg("--exec-root")
            .arg(folder.join("exec"))
            .arg("--pidfile")
            .arg(folder.join("engine.pid"))
            .args(["--iptables=false", "--bridge", bridge.name(), "--host"])
            .arg(format!("unix://{}", socket.display()))
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let engine = Self { process, socket, _bridge: bridge };
        eventually("the Engine answers", async || engine.cli(&["version"]).is_some()).await;
        let image = folder.join("image.tar");
        docker_cli(&["save", "-o", image.to_str().unwrap(), WITH_HOME]);
        engine.cli(&["load", "-i", image.to_str().unwrap()]).expect("the image is loaded");
        std::fs::remove_file(image).unwrap();
        engine
    }

    fn cli(&self, arguments: &[&str]) -> Option<String> {
        let host = format!("unix://{}", self.socket.display());
        let done = Command::new("docker").args(["--host", &host]).args(arguments).output().unwrap();
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }
}

impl Drop for OwnEngine {
    fn drop(&mut self) {
        let there = self.cli(&["ps", "-aq"]).unwrap_or_default();
        for id in there.split_whitespace() {
            self.cli(&["rm", "-fv", id]);
        }
        self.cli(&["network", "rm", &format!("{OWN_NETWORK}0")]);
        forget_firewall(OWN_NETWORK);
        let _ = Command::new("kill").arg(self.process.id().to_string()).status();
        let _ = self.process.wait();
    }
}

const OWN_NETWORK: &str = "ctfull";

#[tokio::test]
async fn an_engine_with_a_full_disk_creates_nothing_until_space_is_free() {
    let bench = ContainerHosts::engine().await;
    let folder = tempfile::tempdir().unwrap();
    let disk = SmallDisk::at(&folder.path().join("disk"), 128);
    let engine = OwnEngine::start(folder.path(), &folder.path().join("disk/docker")).await;
    let mut config = config(folder.path());
    (config.network, config.subnet) = (OWN_NETWORK.into(), std::net::Ipv4Addr::new(10, 99, 0, 0));
    let reclaimer = provisioner_binary();
    let host = DockerHost::connect_with(config, bench.clock.clone(), engine.socket.clone(), reclaimer);
    host.ensure_networks().await.unwrap();
    let (spec, newcomer) = (bench.spec(), bench.spec());
    host.ensure_volume(spec.instance, &spec.size).await.unwrap();
    host.create(&spec).await.unwrap();
    host.start(spec.instance).await.unwrap();
    host.stop(spec.instance).await.unwrap();

    disk.fill(0);
    for refused in [
        host.ensure_volume(newcomer.instance, &newcomer.size).await,
        host.create(&newcomer).await,
        host.start(spec.instance).await,
    ] {
        assert_eq!(refused, Err(HostError::DiskFull));
    }
    assert_eq!(host.inspect(newcomer.instance).await.unwrap().container, None);
    assert!(host.list().await.is_ok() && host.host_report().await.is_ok(), "looking goes on");

    disk.free();
    host.create(&newcomer).await.unwrap();
    for spec in [&spec, &newcomer] {
        host.start(spec.instance).await.unwrap();
        let seen = host.inspect(spec.instance).await.unwrap().container.unwrap();
        assert_eq!(seen.state, ContainerState::Running);
    }
}
