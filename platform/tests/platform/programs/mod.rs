//! Real programs behind the edge: common servers work unmodified, configured only as instance-image/README.md says.
//!
//! Each is a process that listens on the address of an instance. `scripts/soak programs` runs them at full size, and
//! JupyterLab.

mod bulk;
mod git;
mod grpc;
mod jupyter;
mod ticker;
mod vite;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use berth::instances::Fact;

use berth_testing::caddy::CaddyProxy;
use berth_testing::fake_platform::{FakePlatform, until};
use berth_testing::person::Person;

pub const HOST: &str = "alice.example.com";

/// A platform with one real program, behind real Caddy.
pub struct Scene {
    pub platform: FakePlatform,
    pub front: CaddyProxy,
    /// The owner's session cookie, as a name-value pair.
    pub cookie: String,
    pub folder: tempfile::TempDir,
    program: Child,
    _alice: Person,
}

impl Scene {
    /// Starts `program` with the environment of an instance, in a folder of its own, and waits until it is ready.
    pub async fn with(program: impl FnOnce(&Path) -> Command) -> Self {
        let port = CaddyProxy::own_port();
        let platform = FakePlatform::of_real_programs(&[port]).await;
        let folder = tempfile::tempdir().unwrap();
        let alice = platform.sign_up("alice").await;
        let program = program(folder.path())
            .current_dir(folder.path())
            .env("HOME", folder.path())
            .env("PORT", alice.instance.socket().port().to_string())
            .env("BERTH_URL", platform.app.config.hosts.instance_origin(&alice.instance.handle))
            .stdin(Stdio::null())
            .spawn()
            .expect("scripts/test installs the programs");
        let scene = Self {
            front: CaddyProxy::of(&platform).await,
            cookie: platform.instance_cookie(&alice).await,
            platform,
            folder,
            program,
            _alice: alice,
        };
        until(&scene._alice.instance, |status| status.fact == Fact::Awake).await;
        scene.platform.instances().settled().await;
        scene
    }

    /// Starts one of the Python programs among the fixtures.
    pub async fn with_python(name: &str) -> Self {
        let file = fixture(name);
        Self::with(|_| python(&file)).await
    }

    pub fn origin(&self) -> String {
        self.front.origin(HOST)
    }

    /// A `curl` that goes through Caddy as the owner, with `words` before the URL of `path`.
    pub fn curl(&self, words: &[&str], path: &str) -> Command {
        let mut curl = Command::new("curl");
        curl.args(self.front.curl(HOST)).args(["-H", &format!("Cookie: {}", self.cookie)]);
        curl.args(["-H", &format!("Origin: {}", self.origin())]).args(words);
        curl.arg(format!("{}{path}", self.origin()));
        curl
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs").join(name)
}

fn python(file: &Path) -> Command {
    let mut python = Command::new("python3");
    python.arg(file);
    python
}

/// The path of a program installed by `scripts/test` or `scripts/soak`.
#[expect(clippy::disallowed_methods, reason = "scripts, not Berth, are what this variable speaks to")]
pub fn installed(name: &str) -> PathBuf {
    let path = PathBuf::from(std::env::var("HOME").unwrap()).join(".cache/berth").join(name);
    assert!(path.exists(), "{} is missing: scripts/test or scripts/soak programs makes it", path.display());
    path
}

/// The output of a command, which has to succeed.
pub async fn said(command: Command) -> String {
    let done = tokio::process::Command::from(command).kill_on_drop(true).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}
