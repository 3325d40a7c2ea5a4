//! Memory reclaim: makes the kernel move a frozen container's memory to swap, through a child process that can be
//! killed.
//!
//! The write that requests it (`memory.reclaim`, or `memory.force_empty` on cgroup v1) blocks until the kernel is done,
//! which may take seconds, and a blocked thread cannot be interrupted. A child process can be killed. The child runs
//! our own binary, because the provisioner's image contains no other. It runs in the background, and a thaw kills it.

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

/// Timeout for one container; memory that was swapped out by then stays in swap.
const RECLAIM_TIMEOUT: Duration = Duration::from_secs(5);
/// Most concurrent children: swapping is limited by the disk, which the rest of the host needs too.
const MAX_CHILDREN: usize = 2;

/// Reclaims the memory of frozen containers, and tracks the reclaims in progress.
pub(super) struct MemoryReclaimer {
    program: PathBuf,
    clock: Clock,
    in_progress: Mutex<HashMap<InstanceId, AbortHandle>>,
    at_once: Arc<Semaphore>,
}

impl MemoryReclaimer {
    /// The reclaimer that runs `program reclaim --file FILE --bytes BYTES`. The arguments are flags, so that any other
    /// program, such as a test binary, fails on an unknown flag instead of doing something else.
    pub(super) fn new(program: PathBuf, clock: Clock) -> Self {
        Self { program, clock, in_progress: Mutex::default(), at_once: Arc::new(Semaphore::new(MAX_CHILDREN)) }
    }

    /// Starts a reclaim in the background. `target` finds the cgroup, and is awaited in the background too.
    pub(super) fn begin<F>(&self, instance: InstanceId, target: F)
    where
        F: Future<Output = anyhow::Result<ReclaimTarget>> + Send + 'static,
    {
        let (program, clock, at_once) = (self.program.clone(), self.clock.clone(), Arc::clone(&self.at_once));
        let task = tokio::spawn(async move {
            // The wait for a permit does not count towards the timeout.
            let _permit = at_once.acquire_owned().await;
            let started = clock.monotonic();
            match reclaim(&program, target).await {
                Ok(bytes) => {
                    let took_ms = clock.monotonic().duration_since(started).as_millis();
                    tracing::debug!(instance.id = %instance, bytes, took_ms, "reclaimed memory");
                }
                Err(error) => {
                    tracing::warn!(instance.id = %instance, "could not reclaim the memory of a frozen instance: {error:#}");
                }
            }
        });
        let mut in_progress = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner);
        // Finished tasks are removed here, because nothing else cleans the map.
        in_progress.retain(|_, task| !task.is_finished());
        if let Some(earlier) = in_progress.insert(instance, task.abort_handle()) {
            // A second freeze may concern a replacement container.
            earlier.abort();
        }
    }

    /// Cancels a reclaim in progress: the child is killed, and reaped in the background.
    pub(super) fn cancel(&self, instance: InstanceId) {
        let task = self.in_progress.lock().unwrap_or_else(PoisonError::into_inner).remove(&instance);
        if let Some(task) = task {
            task.abort();
        }
    }
}

/// The cgroup file to write, and the number of bytes to request.
pub(super) struct ReclaimTarget {
    file: PathBuf,
    bytes: u64,
}

impl ReclaimTarget {
    /// All memory of the cgroup of process `pid`.
    pub(super) async fn of(pid: i64) -> anyhow::Result<Self> {
        let of_process = format!("/proc/{pid}/cgroup");
        let text = tokio::fs::read_to_string(&of_process).await.with_context(|| format!("reading {of_process}"))?;
        let (file, usage) = files(&text).with_context(|| format!("{of_process} names no memory cgroup"))?;
        let bytes = tokio::fs::read_to_string(&usage).await.with_context(|| format!("reading {}", usage.display()))?;
        Ok(Self { file, bytes: bytes.trim().parse()? })
    }
}

async fn reclaim(program: &Path, target: impl Future<Output = anyhow::Result<ReclaimTarget>>) -> anyhow::Result<u64> {
    let ReclaimTarget { file, bytes } = target.await?;
    let mut child = Command::new(program)
        .args(["reclaim", "--file"])
        .arg(&file)
        .args(["--bytes", &bytes.to_string()])
        // The child needs none of our variables.
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .context("starting the child that reclaims memory")?;
    // A timeout drops the child, which kills it.
    let status = timeout(RECLAIM_TIMEOUT, child.wait()).await.context("the kernel did not finish in time")??;
    anyhow::ensure!(status.success(), "writing {} failed ({status})", file.display());
    Ok(bytes)
}

/// The file for the request and the file with the usage, from the text of `/proc/PID/cgroup` (cgroups(7)): a line
/// `N:memory:/path` on cgroup v1, only `0::/path` on v2. A provisioner in a container sees paths relative to its own
/// cgroup, `/../../path`. Tenants' cgroups are direct children of the root, so removing the leading `/..` gives the
/// absolute path.
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

/// The size of the host's swap in MiB; 0 if it is unknown.
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

    /// A program that records its arguments and its process id, and then hangs.
    const HANGING: &str =
        "#!/bin/sh\ncd \"$(dirname \"$0\")\"\necho \"$@\" > arguments\necho $$ > pid\nexec sleep 600\n";

    #[tokio::test]
    async fn a_thaw_kills_the_child_that_reclaims_memory() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("program");
        std::fs::write(&program, HANGING).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let instance = InstanceId(Clock::system().uuid());
        let reclaimer = MemoryReclaimer::new(program, Clock::system());
        reclaimer.begin(instance, async {
            Ok(ReclaimTarget { file: "/sys/fs/cgroup/x/memory.reclaim".into(), bytes: 4096 })
        });

        let pid =
            until(|| std::fs::read_to_string(dir.path().join("pid")).ok().filter(|pid| pid.ends_with('\n'))).await;
        let arguments = std::fs::read_to_string(dir.path().join("arguments")).unwrap();
        assert_eq!(arguments, "reclaim --file /sys/fs/cgroup/x/memory.reclaim --bytes 4096\n");
        reclaimer.cancel(instance);
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
