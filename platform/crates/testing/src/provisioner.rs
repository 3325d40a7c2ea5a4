//! The path of the provisioner's binary. It belongs to another package, so Cargo neither builds it for these tests nor
//! says where it is.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// The binary beside the platform's own, built first if need be, once for all tests.
pub fn provisioner_binary() -> PathBuf {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let platform = crate::binary("berth");
        let mut build = Command::new(env!("CARGO"));
        // By itself, as the scripts build it: Cargo then unifies no feature of the platform's dependencies into it.
        build.args(["build", "--quiet", "--locked", "--package", "berth-provisioner"]);
        // TARGET_DIR/PROFILE/berth, whatever target directory this process was told of.
        let profile = platform.parent().expect("a binary lies in a folder");
        build.arg("--target-dir").arg(profile.parent().expect("a profile's folder lies in the target directory"));
        if profile.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo starts").success(), "berth-provisioner does not build");
        let binary = platform.with_file_name("berth-provisioner");
        assert!(binary.exists(), "Cargo put berth-provisioner elsewhere than berth");
        binary
    });
    BINARY.clone()
}
