//! Volumes with a limit of size on a real Engine: what fits, what becomes of the devices, and what a full disk does.

use std::path::{Path, PathBuf};
use std::process::Command;

use berth::config::{ContainerConfig, DiskLimit};
use berth_containers::{ContainerSpec, ContainerState, HostError};

use berth_testing::container_hosts::{BARE, ContainerHosts, WITH_HOME, ask, config, docker, docker_cli, name};
use berth_testing::wait::eventually;

fn bounded(config: &mut ContainerConfig) {
    config.disk_limit = DiskLimit::Image;
}

/// The file behind a volume.
fn file(bench: &ContainerHosts, spec: &ContainerSpec) -> PathBuf {
    bench.dir.path().join("volumes").join(format!("{}.ext4", name(spec)))
}

fn is_attached(file: &Path) -> bool {
    let devices = std::fs::read_dir("/sys/block").unwrap().flatten();
    devices
        .map(|device| device.path().join("loop/backing_file"))
        .any(|backing| std::fs::read_to_string(backing).is_ok_and(|text| Path::new(text.trim_end()) == file))
}

/// How many a deed of the tenant's made before the limit, which it must have met.
fn made_until_full(answer: &str) -> u64 {
    let (made, error) = answer.split_once(' ').unwrap_or((answer, ""));
    assert!(error.contains("No space left"), "{answer}");
    made.parse().unwrap()
}

#[tokio::test]
async fn a_volume_takes_its_size_and_no_more_in_bytes_and_in_files() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let spec = bench.running().await;
    let made = made_until_full(&ask(&spec, "stuff/home/berth/stuff").await);
    assert!((40..64).contains(&made), "{made} MiB went into a volume of 64 MiB");
    assert_eq!(ask(&spec, "remove/home/berth/stuff").await, "removed");
    let files = made_until_full(&ask(&spec, "litter/home/berth/litter").await);
    assert!((1500..3000).contains(&files), "{files} files went into a volume of 64 MiB");
    assert_eq!(ask(&spec, "remove/home/berth/litter").await, "removed");
    assert_eq!(ask(&spec, "write/home/berth/note").await, "written", "what was removed makes room");
}

#[tokio::test]
async fn a_device_is_taken_only_while_its_instance_is_awake() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let spec = bench.spec();
    let (file, link) = (file(&bench, &spec), file(&bench, &spec).with_extension("dev"));
    bench.host.ensure_volume(spec.instance, &spec.size).await.unwrap();
    bench.host.create(&spec).await.unwrap();
    eventually("making it is over", async || !is_attached(&file) && !link.exists()).await;
    for _ in 0..2 {
        bench.host.start(spec.instance).await.unwrap();
        assert!(is_attached(&file));
        eventually("the link has gone", async || std::fs::symlink_metadata(&link).is_err()).await;
        assert_eq!(ask(&spec, "write/home/berth/note").await, "written");
        bench.host.stop(spec.instance).await.unwrap();
        eventually("the device has gone", async || !is_attached(&file)).await;
    }
    // Nothing of a stopped instance can be started around us on a device that is another's by now.
    let started = Command::new("docker").args(["start", &name(&spec)]).output().unwrap();
    assert!(!started.status.success(), "the Engine started it without its file system");
    bench.host.start(spec.instance).await.unwrap();
    assert_eq!(ask(&spec, "read/home/berth/note").await, "written");
    bench.host.remove_container(spec.instance).await.unwrap();
    eventually("the device has gone with the container", async || !is_attached(&file)).await;
}

#[tokio::test]
async fn home_is_writable_and_outlives_its_container_whatever_the_image_carries() {
    let bench = ContainerHosts::engine_with(bounded).await;
    for image in [WITH_HOME, BARE] {
        let mut spec = bench.spec();
        spec.image = image.into();
        bench.run(&spec).await;
        assert_eq!(ask(&spec, "write/home/berth/note").await, "written", "{image}");
        spec.token = "another-token".into();
        bench.run(&spec).await;
        assert_eq!(ask(&spec, "read/home/berth/note").await, "written", "{image}");
    }
}

#[tokio::test]
async fn two_who_make_and_start_one_at_once_get_one_file_system() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let spec = bench.spec();
    let (one, two) = tokio::join!(bench.host.create(&spec), bench.host.create(&spec));
    assert_eq!((one, two), (Ok(()), Ok(())));
    let (one, two) = tokio::join!(bench.host.start(spec.instance), bench.host.start(spec.instance));
    assert_eq!((one, two), (Ok(()), Ok(())));
    assert_eq!(ask(&spec, "write/home/berth/note").await, "written");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    assert_eq!(mounts.lines().filter(|line| line.contains(&name(&spec))).count(), 1);
}

#[tokio::test]
async fn a_plain_volume_from_before_stays_as_it_is() {
    let before = ContainerHosts::engine().await;
    let mut spec = before.running().await;
    assert_eq!(ask(&spec, "write/home/berth/note").await, "written");
    let after = before.again_with(bounded);
    spec.token = "another-token".into();
    after.run(&spec).await;
    assert_eq!(ask(&spec, "read/home/berth/note").await, "written");
    assert!(!file(&after, &spec).exists());
}

#[tokio::test]
async fn a_larger_size_reaches_the_volume_at_the_next_start_and_a_smaller_one_never() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let spec = bench.running().await;
    assert_eq!(ask(&spec, "write/home/berth/note").await, "written");
    for (mib, room) in [(128, 100..128), (32, 100..128)] {
        let resized = bench.again_with(|config| {
            bounded(config);
            config.sizes[0].disk_mib = mib;
        });
        resized.host.stop(spec.instance).await.unwrap();
        resized.host.ensure_volume(spec.instance, &spec.size).await.unwrap();
        resized.host.start(spec.instance).await.unwrap();
        let made = made_until_full(&ask(&spec, "stuff/home/berth/stuff").await);
        assert!(room.contains(&made), "{made} MiB at a size of {mib}");
        assert_eq!(ask(&spec, "remove/home/berth/stuff").await, "removed");
        assert_eq!(ask(&spec, "read/home/berth/note").await, "written");
    }
}

#[tokio::test]
async fn a_broken_file_system_is_repaired_before_it_is_used() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let spec = bench.running().await;
    assert_eq!(ask(&spec, "write/home/berth/note").await, "written");
    bench.host.stop(spec.instance).await.unwrap();
    let file = file(&bench, &spec);
    eventually("the device has gone", async || !is_attached(&file)).await;
    let mark = ["-w", "-R", "set_super_value state 2", file.to_str().unwrap()];
    assert!(Command::new("debugfs").args(mark).output().unwrap().status.success());
    bench.host.start(spec.instance).await.unwrap();
    assert_eq!(ask(&spec, "read/home/berth/note").await, "written");
    bench.host.stop(spec.instance).await.unwrap();
    eventually("the device has gone", async || !is_attached(&file)).await;
    let told = Command::new("dumpe2fs").args(["-h", file.to_str().unwrap()]).output().unwrap();
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.lines().any(|line| line.starts_with("Filesystem state") && line.ends_with("clean")), "{told}");
}

#[tokio::test]
async fn a_file_that_is_no_file_system_is_refused_with_a_sentence() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let spec = bench.running().await;
    bench.host.stop(spec.instance).await.unwrap();
    eventually("the device has gone", async || !is_attached(&file(&bench, &spec))).await;
    std::fs::write(file(&bench, &spec), vec![0; 64 << 20]).unwrap();
    let refused = bench.host.start(spec.instance).await;
    assert!(matches!(&refused, Err(HostError::Failed(why)) if why.contains("restore it")), "{refused:?}");
    assert_eq!(bench.state(&spec).await, Some(ContainerState::Stopped));
}

#[tokio::test]
async fn a_volume_whose_file_is_missing_does_not_start_and_gets_no_other() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let spec = bench.running().await;
    assert_eq!(ask(&spec, "write/home/berth/note").await, "written");
    bench.host.stop(spec.instance).await.unwrap();
    let file = file(&bench, &spec);
    eventually("the device has gone", async || !is_attached(&file)).await;
    let aside = file.with_extension("aside");
    std::fs::rename(&file, &aside).unwrap();
    let mut anew = spec.clone();
    anew.token = "another-token".into();
    for refused in [
        bench.host.start(spec.instance).await,
        bench.host.ensure_volume(spec.instance, &spec.size).await,
        bench.host.create(&anew).await,
    ] {
        assert!(matches!(&refused, Err(HostError::Failed(why)) if why.contains("is missing: restore")), "{refused:?}");
    }
    assert!(!file.exists(), "an empty file system took the place of the missing one");
    std::fs::rename(&aside, &file).unwrap();
    bench.run(&anew).await;
    assert_eq!(ask(&spec, "read/home/berth/note").await, "written");
}

/// Attaches `file` to a device of the story's own, which goes when this is dropped.
struct OtherDevice(String);

impl OtherDevice {
    fn of(file: &Path) -> Self {
        let made = Command::new("losetup").args(["--find", "--show"]).arg(file).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        Self(String::from_utf8(made.stdout).unwrap().trim().to_owned())
    }
}

impl Drop for OtherDevice {
    fn drop(&mut self) {
        let _ = Command::new("losetup").args(["-d", &self.0]).status();
    }
}

#[tokio::test]
async fn a_link_to_the_device_of_another_tenant_is_not_mounted() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let (alice, bob) = (bench.running().await, bench.running().await);
    assert_eq!(ask(&alice, "write/home/berth/of-alice").await, "written");
    assert_eq!(ask(&bob, "write/home/berth/of-bob").await, "written");
    for spec in [&alice, &bob] {
        bench.host.stop(spec.instance).await.unwrap();
        eventually("the device has gone", async || !is_attached(&file(&bench, spec))).await;
    }
    let bobs = OtherDevice::of(&file(&bench, &bob));
    let link = file(&bench, &alice).with_extension("dev");
    std::os::unix::fs::symlink(&bobs.0, &link).unwrap();
    bench.host.start(alice.instance).await.unwrap();
    assert_eq!(ask(&alice, "read/home/berth/of-alice").await, "written");

    // Left over from a provisioner that was killed: its next start removes it, before anybody starts the container.
    bench.host.stop(alice.instance).await.unwrap();
    eventually("the device has gone", async || !is_attached(&file(&bench, &alice))).await;
    std::os::unix::fs::symlink(&bobs.0, &link).unwrap();
    let mut settings = config(bench.dir.path());
    bounded(&mut settings);
    docker(settings).open_volumes().unwrap();
    assert!(std::fs::symlink_metadata(&link).is_err());
}

#[tokio::test]
async fn files_that_moved_to_another_folder_are_mounted_from_there_alone() {
    let before = ContainerHosts::engine_with(bounded).await;
    let (alice, bob) = (before.running().await, before.running().await);
    assert_eq!(ask(&alice, "write/home/berth/note").await, "written");
    assert_eq!(ask(&bob, "write/home/berth/note").await, "written");
    before.host.stop(alice.instance).await.unwrap();
    eventually("the device has gone", async || !is_attached(&file(&before, &alice))).await;

    // Bob's is mounted while it moves.
    let (old, new) = (before.dir.path().join("volumes"), before.dir.path().join("moved"));
    std::fs::rename(&old, &new).unwrap();
    let after = before.again_with(|config| {
        bounded(config);
        config.volumes_dir = new.clone();
    });
    assert_eq!(ask(&bob, "read/home/berth/note").await, "written");
    for spec in [&alice, &bob] {
        let seen = after.seen(spec).await.container.unwrap();
        assert!(!seen.current, "the reconciler replaces it when it next starts");
    }

    // Where the files were, another user puts a device of another tenant.
    let bobs = OtherDevice::of(&new.join(format!("{}.ext4", name(&bob))));
    std::fs::create_dir(&old).unwrap();
    std::os::unix::fs::symlink(&bobs.0, old.join(format!("{}.dev", name(&alice)))).unwrap();
    let refused = after.host.start(alice.instance).await;
    assert!(matches!(&refused, Err(HostError::Refused(why)) if why.contains("made anew")), "{refused:?}");
    drop(bobs);

    after.host.stop(bob.instance).await.unwrap();
    for spec in [&alice, &bob] {
        after.host.create(spec).await.unwrap();
        after.host.start(spec.instance).await.unwrap();
        assert_eq!(ask(spec, "read/home/berth/note").await, "written");
        assert!(after.seen(spec).await.container.unwrap().current);
    }
}

#[tokio::test]
async fn a_volume_that_is_destroyed_leaves_nothing_behind() {
    let bench = ContainerHosts::engine_with(|config| {
        bounded(config);
        config.delete_after = std::time::Duration::ZERO;
    })
    .await;
    let spec = bench.running().await;
    bench.host.bury_volume(spec.instance).await.unwrap();
    bench.host.remove_container(spec.instance).await.unwrap();
    bench.host.destroy_volume(spec.instance).await.unwrap();
    let left: Vec<_> = std::fs::read_dir(bench.dir.path().join("volumes")).unwrap().flatten().collect();
    assert!(left.is_empty(), "{left:?}");
    let volumes = docker_cli(&["volume", "ls", "-q", "--filter", &format!("name={}", name(&spec))]);
    assert_eq!(volumes, "");
}

#[tokio::test]
async fn tidying_the_engine_up_takes_no_files() {
    let bench = ContainerHosts::engine_with(bounded).await;
    let spec = bench.running().await;
    assert_eq!(ask(&spec, "write/home/berth/note").await, "written");
    bench.host.stop(spec.instance).await.unwrap();
    // What `docker system prune --volumes` does to it.
    docker_cli(&["rm", &name(&spec)]);
    docker_cli(&["volume", "rm", &name(&spec)]);
    assert!(!bench.seen(&spec).await.volume);
    bench.run(&spec).await;
    assert_eq!(ask(&spec, "read/home/berth/note").await, "written");
}
