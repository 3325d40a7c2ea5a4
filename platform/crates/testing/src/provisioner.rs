//! The provisioner's binary. It is another package's, so Cargo neither builds it for these tests nor says where it is.

use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

/// The binary beside the platform's own, built first if need be, once for all tests.
pub fn provisioner_binary() -> PathBuf {
    static BINARY: LazyLock<PathBuf> = LazyLock::new(|| {
        let platform = crate::binary("berth");
        // By itself, as the scripts build it: Cargo then unifies no feature of the platform's dependencies into it.
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--package", "berth-provisioner"]);
        if platform.parent().is_some_and(|folder| folder.ends_with("release")) {
            build.arg("--release");
        }
        assert!(build.status().expect("cargo starts").success(), "berth-provisioner does not build");
        let binary = platform.with_file_name("berth-provisioner");
        assert!(binary.exists(), "Cargo put berth-provisioner elsewhere than berth");
        binary
    });
    BINARY.clone()
}
