//! The platform as another user than root, who cannot open the Docker socket: the real binary, twice, and a whole wake
//! through the provisioner.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use berth::app::App;
use berth_containers::fake::FakeHost;
use berth_ground::clock::Clock;

use berth_testing::container_hosts::{ContainerHosts, WITH_HOME, ask_at};
use berth_testing::person::Person;
use berth_testing::provisioner::provisioner_binary;
use berth_testing::wait::eventually;
use berth_testing::{START, config, databases};

/// The uid of `nobody`: neither root nor in Docker's group.
const USER: u32 = 65534;

#[tokio::test]
async fn the_platform_wakes_an_instance_without_the_docker_socket() {
    let bench = ContainerHosts::engine().await;
    let home = Home::new(bench.dir.path(), "ctesttwo", Ipv4Addr::new(10, 95, 0, 0));
    // An account signed up; at its start the platform finds the wish for an instance in the database.
    let database = databases::sqlite().await;
    let config = config(&database, &[("BERTH_IMAGES", WITH_HOME)]);
    let host = Arc::new(FakeHost::new(config.containers.clone(), Clock::manual(START)));
    let app = App::open(config, Clock::manual(START), host).await.unwrap();
    Person::sign_up(&app, "alice").await;
    for file in ["berth.db", "berth.db-wal"] {
        std::fs::copy(app.config.data_dir.join(file), home.data().join(file)).unwrap();
    }
    drop(app);
    home.give_away();

    assert!(!home.plain(Command::new("curl")).args(SOCKET).status().unwrap().success(), "nobody opens the socket");
    assert!(Command::new("curl").args(SOCKET).status().unwrap().success(), "and root does");
    let _provisioner = home.start_provisioner();
    eventually("the provisioner listens", async || home.data().join("run/provisioner.sock").exists()).await;
    let _platform = home.start_platform();

    let address = (Ipv4Addr::from(u32::from(home.subnet) + 16), 8080).into();
    eventually("the platform takes commands", async || home.data().join("run/control.sock").exists()).await;
    home.berth(&["instance", "wake", "alice"]);
    assert_eq!(ask_at(address, "healthz").await, "ok");
    home.berth(&["instance", "sleep", "alice", "--stop"]);
    assert!(home.berth(&["instance", "show", "alice"]).contains("stopped"));
    home.berth(&["instance", "wake", "alice"]);
    assert_eq!(ask_at(address, "healthz").await, "ok");
}

#[tokio::test]
async fn somebody_else_on_this_host_is_not_let_in() {
    let bench = ContainerHosts::engine().await;
    let home = Home::new(bench.dir.path(), "ctestother", Ipv4Addr::new(10, 101, 0, 0));
    home.give_away();
    let _provisioner = home.start_provisioner();
    let socket = home.data().join("run/provisioner.sock");
    eventually("the provisioner listens", async || socket.exists()).await;
    // Even when its file lets everybody connect: the kernel says who it is.
    std::fs::set_permissions(&socket, std::fs::Permissions::from_mode(0o777)).unwrap();
    let doctor = |uid: u32, gid: u32| {
        let mut doctor = Command::new(&home.program);
        doctor.args(["doctor"]).envs(home.settings()).uid(uid).gid(gid);
        String::from_utf8(doctor.output().unwrap().stdout).unwrap()
    };
    let stranger = doctor(12_345, 12_345);
    assert!(stranger.contains("this socket is for the platform's own user"), "{stranger}");
    let ours = doctor(USER, USER);
    assert!(ours.contains("ok    provisioner"), "{ours}");
}

#[tokio::test]
async fn a_provisioner_whose_volumes_the_platforms_user_could_replace_does_not_start() {
    let bench = ContainerHosts::engine().await;
    let home = Home::new(bench.dir.path(), "ctestown", Ipv4Addr::new(10, 102, 0, 0));
    home.give_away();
    let mut provisioner = home.plain(Command::new(&home.provisioner));
    let volumes = home.data().join("volumes");
    let output = provisioner.uid(0).env("BERTH_VOLUMES_DIR", &volumes).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("may rename") && said.contains("set BERTH_VOLUMES_DIR to"), "{said}");
    assert!(!home.data().join("run/provisioner.sock").exists());
}

const SOCKET: [&str; 6] = ["-sf", "--max-time", "5", "--unix-socket", "/var/run/docker.sock", "http://docker/_ping"];

/// A data directory and copies of the binaries that the user `nobody` can read.
struct Home {
    folder: PathBuf,
    program: PathBuf,
    provisioner: PathBuf,
    ports: [u16; 3],
    network: &'static str,
    subnet: Ipv4Addr,
}

impl Home {
    fn new(folder: &Path, network: &'static str, subnet: Ipv4Addr) -> Self {
        let folder = folder.join("two");
        std::fs::create_dir_all(folder.join("data/run")).unwrap();
        let program = folder.join("berth");
        std::fs::copy(env!("CARGO_BIN_EXE_berth"), &program).unwrap();
        let provisioner = folder.join("berth-provisioner");
        std::fs::copy(provisioner_binary(), &provisioner).unwrap();
        let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Self { folder, program, provisioner, ports: [free(), free(), free()], network, subnet }
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn give_away(&self) {
        let outer = self.folder.parent().unwrap();
        std::fs::set_permissions(outer, std::fs::Permissions::from_mode(0o755)).unwrap();
        for place in ["data", "data/run", "data/berth.db", "data/berth.db-wal"] {
            let place = self.folder.join(place);
            if place.exists() {
                chown(place, Some(USER), Some(USER)).unwrap();
            }
        }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let [listen, internal, demo] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        vec![
            ("BERTH_DOMAIN", "example.com".into()),
            ("BERTH_SECRET", "a secret for stories, 32 characters and more".into()),
            ("BERTH_DATA_DIR", self.data().to_str().unwrap().into()),
            // The data directory is nobody's, who could put another folder in the place of one in it.
            ("BERTH_VOLUMES_DIR", self.folder.join("volumes").to_str().unwrap().into()),
            ("BERTH_NETWORK", self.network.into()),
            ("BERTH_SUBNET", self.subnet.to_string()),
            ("BERTH_IMAGES", WITH_HOME.into()),
            ("BERTH_MEMORY_MIB", "64".into()),
            ("BERTH_LISTEN", listen),
            ("BERTH_INTERNAL_LISTEN", internal),
            ("BERTH_DEMO_LISTEN", demo),
        ]
    }

    /// As the user `nobody`, with our settings and no other group.
    fn plain(&self, mut command: Command) -> Command {
        command.envs(self.settings()).uid(USER).gid(USER).stdin(Stdio::null());
        command
    }

    /// As root; its socket is for the group of the user `nobody`.
    fn start_provisioner(&self) -> Running {
        Running(self.plain(Command::new(&self.provisioner)).uid(0).spawn().unwrap())
    }

    fn start_platform(&self) -> Running {
        Running(self.plain(Command::new(&self.program)).arg("serve").spawn().unwrap())
    }

    /// An operator's command; panics with what it said when it fails.
    fn berth(&self, words: &[&str]) -> String {
        let output = self.plain(Command::new(&self.program)).args(words).output().unwrap();
        assert!(output.status.success(), "berth {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/engine"))
            .args(["forget", self.network])
            .status();
    }
}

/// A process that ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
