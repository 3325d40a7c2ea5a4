//! Resource usage of the host and its containers, from /proc and the cgroup file system.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::{ContainerLoad, HostError, HostLoad};

const CGROUPS: &str = "/sys/fs/cgroup";

/// Reads memory, memory pressure and every container below `cgroup_parent`, which is `/berth` or `berth.slice`.
pub(super) fn read(cgroup_parent: &str) -> Result<HostLoad, HostError> {
    let text = fs::read_to_string("/proc/meminfo").map_err(|error| HostError::Failed(error.to_string()))?;
    let bytes = |field: &str| meminfo(&text, field).unwrap_or_default();
    Ok(HostLoad {
        memory_total: bytes("MemTotal:"),
        memory_available: bytes("MemAvailable:"),
        swap_total: bytes("SwapTotal:"),
        swap_free: bytes("SwapFree:"),
        // Absent on kernels that were built or booted without PSI.
        memory_pressure: fs::read_to_string("/proc/pressure/memory").ok().and_then(|text| some_avg10(&text)),
        containers: containers(Path::new(CGROUPS), cgroup_parent.trim_start_matches('/')),
    })
}

/// A field of /proc/meminfo in bytes.
fn meminfo(text: &str, field: &str) -> Option<u64> {
    let kib: u64 = text.lines().find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB")?.parse().ok())?;
    Some(kib * 1024)
}

/// The value of `some avg10=1.23 avg60=..` (the kernel's documentation of PSI).
fn some_avg10(text: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    some.split_whitespace().find_map(|word| word.strip_prefix("avg10=")?.parse().ok())
}

/// The containers below one parent, on cgroup v2 (one tree, `memory.current`, `cpu.stat`) or v1 (one tree per
/// controller).
fn containers(root: &Path, parent: &str) -> Vec<ContainerLoad> {
    let v1 = root.join("memory").is_dir();
    let (memory, cpu) = if v1 { (root.join("memory"), root.join("cpuacct")) } else { (root.into(), root.into()) };
    let (memory, cpu): (PathBuf, PathBuf) = (memory.join(parent), cpu.join(parent));
    let Ok(entries) = fs::read_dir(&memory) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names
        .filter_map(|name| {
            let id = container_id(&name)?;
            let number = |file: PathBuf| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok();
            let (memory, cpu) = if v1 {
                let nanos = number(cpu.join(&name).join("cpuacct.usage"))?;
                (number(memory.join(&name).join("memory.usage_in_bytes"))?, Duration::from_nanos(nanos))
            } else {
                let stat = fs::read_to_string(cpu.join(&name).join("cpu.stat")).ok()?;
                let micros = stat.lines().find_map(|line| line.strip_prefix("usage_usec ")?.parse().ok())?;
                (number(memory.join(&name).join("memory.current"))?, Duration::from_micros(micros))
            };
            // Race: a container that stops between the directory listing and these reads is omitted by the `?` above.
            Some(ContainerLoad { id, cpu, memory })
        })
        .collect()
}

/// The Engine names a container's cgroup by its id (cgroupfs) or `docker-ID.scope` (systemd).
fn container_id(name: &str) -> Option<String> {
    let id = name.strip_prefix("docker-").and_then(|name| name.strip_suffix(".scope")).unwrap_or(name);
    (id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit())).then(|| id.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn both_versions_of_cgroups_are_read() {
        let v1 = tempfile::tempdir().unwrap();
        for (file, text) in [("memory/berth", "memory.usage_in_bytes"), ("cpuacct/berth", "cpuacct.usage")] {
            let folder = v1.path().join(file).join(ID);
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join(text), "4096\n").unwrap();
        }
        fs::create_dir_all(v1.path().join("memory/berth/not-a-container")).unwrap();
        let v2 = tempfile::tempdir().unwrap();
        let folder = v2.path().join(format!("berth.slice/docker-{ID}.scope"));
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("memory.current"), "4096\n").unwrap();
        fs::write(folder.join("cpu.stat"), "usage_usec 7\nuser_usec 5\n").unwrap();
        for (root, parent, nanos) in [(v1.path(), "berth", 4096), (v2.path(), "berth.slice", 7000)] {
            let expected = ContainerLoad { id: ID.into(), cpu: Duration::from_nanos(nanos), memory: 4096 };
            assert_eq!(containers(root, parent), [expected]);
        }
    }

    #[test]
    fn pressure_is_the_first_figure_of_some() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=1\nfull avg10=0.75 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!(some_avg10(text), Some(1.5));
        assert_eq!(some_avg10(""), None);
    }
}
