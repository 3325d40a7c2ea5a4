//! Hands the memory of a frozen container back: the kernel is asked to push it to swap, by a child that can be killed.
//!
//! The write that asks (`memory.reclaim`, or `memory.force_empty` on cgroup v1) blocks until the kernel has done what it
//! could, which may take seconds, and a blocked thread cannot be interrupted. A child process can: it is our own binary
//! again, because the provisioner's image holds nothing else. Nobody waits for it, and a thaw kills it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use berth_ground::clock::Clock;
use berth_ground::ids::InstanceId;
use tokio::process::Command;
use tokio::sync::Semaphore;
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// How long the kernel may take for one container; what is swapped by then stays swapped.
const DEADLINE: Duration = Duration::from_secs(5);
/// Children at work: swapping is bound by the disk, and the rest of the host needs it too.
const AT_ONCE: usize = 2;

/// The hand-backs under way.
pub(super) struct HandBack {
    program: PathBuf,
    clock: Clock,
    under_way: Mutex<HashMap<InstanceId, AbortHandle>>,
    at_once: Arc<Semaphore>,
}

impl HandBack {
    /// `program` is run as `program reclaim --file FILE --bytes BYTES`. Its arguments are flags so that
    /// any other program, a test binary for one, stops at an unknown flag instead of doing something else.
    pub(super) fn new(program: PathBuf, clock: Clock) -> Self {
        Self { program, clock, under_way: Mutex::default(), at_once: Arc::new(Semaphore::new(AT_ONCE)) }
    }

    /// Starts handing back memory in the background, once `target` has found whose.
    pub(super) fn begin<F>(&self, instance: InstanceId, target: F)
    where
        F: Future<Output = anyhow::Result<Target>> + Send + 'static,
    {
        let (program, clock, at_once) = (self.program.clone(), self.clock.clone(), Arc::clone(&self.at_once));
        let task = tokio::spawn(async move {
            let _turn = at_once.acquire_owned().await;
            let started = clock.monotonic();
            match hand_back(&program, target).await {
                Ok(bytes) => {
                    let took_ms = clock.monotonic().duration_since(started).as_millis();
                    tracing::debug!(instance.id = %instance, bytes, took_ms, "memory handed back");
                }
                Err(error) => {
                    tracing::warn!(instance.id = %instance, "a frozen instance keeps its memory: {error:#}");
                }
            }
        });
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        under_way.retain(|_, task| !task.is_finished());
        if let Some(earlier) = under_way.insert(instance, task.abort_handle()) {
            earlier.abort();
        }
    }

    /// Ends a hand-back that is under way: its child is killed and waited for in the background.
    pub(super) fn end(&self, instance: InstanceId) {
        let task = self.under_way.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// The file to write, and how many bytes to ask for.
pub(super) struct Target {
    file: PathBuf,
    bytes: u64,
}

impl Target {
    /// All the memory of the cgroup that process `pid` is in.
    pub(super) async fn of(pid: i64) -> anyhow::Result<Self> {
        let of_process = format!("/proc/{pid}/cgroup");
        let text = tokio::fs::read_to_string(&of_process).await.with_context(|| format!("reading {of_process}"))?;
        let (file, usage) = files(&text).with_context(|| format!("{of_process} names no memory cgroup"))?;
        let bytes = tokio::fs::read_to_string(&usage).await.with_context(|| format!("reading {}", usage.display()))?;
        Ok(Self { file, bytes: bytes.trim().parse()? })
    }
}

async fn hand_back(program: &Path, target: impl Future<Output = anyhow::Result<Target>>) -> anyhow::Result<u64> {
    let Target { file, bytes } = target.await?;
    let mut child = Command::new(program)
        .args(["reclaim", "--file"])
        .arg(&file)
        .args(["--bytes", &bytes.to_string()])
        // It needs nothing of ours, least of all our secrets.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting the child that hands memory back")?;
    let status = timeout(DEADLINE, child.wait()).await.context("the kernel did not finish in time")??;
    anyhow::ensure!(status.success(), "writing {} failed ({status})", file.display());
    Ok(bytes)
}

/// Where to ask and where to read the usage, from the text of `/proc/PID/cgroup` (cgroups(7)): a line
/// `N:memory:/path` on cgroup v1, only `0::/path` on v2. In a container of its own, the provisioner is told the way there
/// from its own cgroup, `/../../path`; ours hang directly below the root, so what is left of the climb is the path.
fn files(text: &str) -> Option<(PathBuf, PathBuf)> {
    let paths = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let below = |root: &str, path: &str| PathBuf::from(format!("{root}{}", path.trim_start_matches("/..")));
    if let Some((_, path)) = paths().find(|(controllers, _)| controllers.split(',').any(|c| c == "memory")) {
        let cgroup = below("/sys/fs/cgroup/memory", path);
        return Some((cgroup.join("memory.force_empty"), cgroup.join("memory.usage_in_bytes")));
    }
    let (_, path) = paths().find(|(controllers, _)| controllers.is_empty())?;
    let cgroup = below("/sys/fs/cgroup", path);
    Some((cgroup.join("memory.reclaim"), cgroup.join("memory.current")))
}

/// The host's swap in MiB; 0 when it cannot be told.
pub(super) async fn swap_mib() -> u64 {
    let text = tokio::fs::read_to_string("/proc/meminfo").await.unwrap_or_default();
    let kib = text.lines().find_map(|line| line.strip_prefix("SwapTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    kib.unwrap_or(0_u64) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_follows_the_hosts_cgroup_version() {
        for (text, file) in [
            ("9:memory:/berth/abc\n0::/berth/abc\n", Some("/sys/fs/cgroup/memory/berth/abc/memory.force_empty")),
            (
                "0::/../../berth.slice/docker-abc.scope\n",
                Some("/sys/fs/cgroup/berth.slice/docker-abc.scope/memory.reclaim"),
            ),
            ("0::/berth.slice/docker-abc.scope\n", Some("/sys/fs/cgroup/berth.slice/docker-abc.scope/memory.reclaim")),
            ("3:cpu,cpuacct:/berth/abc\n", None),
            ("", None),
        ] {
            assert_eq!(files(text).map(|(file, _)| file), file.map(PathBuf::from), "{text}");
        }
    }

    /// A program that notes its arguments and its process id, and then does not end.
    const HANGING: &str = "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho \"$@\" > said\necho $$ > pid\nexec sleep 600\n";

    #[tokio::test]
    async fn a_thaw_kills_the_child_that_hands_memory_back() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, HANGING).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let instance = InstanceId(Clock::system().uuid());
        let hand_back = HandBack::new(program, Clock::system());
        hand_back.begin(instance, async { Ok(Target { file: "/sys/fs/cgroup/x/memory.reclaim".into(), bytes: 4096 }) });

        let pid =
            until(|| std::fs::read_to_string(dir.path().join("pid")).ok().filter(|pid| pid.ends_with('\n'))).await;
        let said = std::fs::read_to_string(dir.path().join("said")).unwrap();
        assert_eq!(said, "reclaim --file /sys/fs/cgroup/x/memory.reclaim --bytes 4096\n");
        hand_back.end(instance);
        until(|| (!Path::new("/proc").join(pid.trim()).exists()).then_some(())).await;
    }

    async fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
        let looked = timeout(Duration::from_secs(4), async {
            loop {
                match look() {
                    Some(found) => return found,
                    None => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        });
        looked.await.expect("within the child's own deadline")
    }
}
