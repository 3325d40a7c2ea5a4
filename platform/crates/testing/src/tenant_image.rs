//! A fixture that builds images of the tenant in `tests/fixtures`, from scratch and without a network.

use std::path::Path;
use std::process::Command;

/// Compiles the tenant and makes the image `name` of it, with a home of uid 10001.
pub fn make_image(name: &str, engine: &Path) {
    let dir = tempfile::tempdir().unwrap();
    let source = crate::fixture("tenant.rs");
    let root = dir.path().join("root");
    std::fs::create_dir_all(root.join("home/berth")).unwrap();
    let archive = dir.path().join("image.tar");
    let mut compile = Command::new("rustc");
    compile.args(["--edition", "2024", "-C", "target-feature=+crt-static", "-o"]);
    run(compile.arg(root.join("tenant")).arg(source));
    let mut pack = Command::new("tar");
    pack.args(["--owner=10001", "--group=10001", "-C"]).arg(&root).arg("-cf").arg(&archive).args(["tenant", "home"]);
    run(&mut pack);
    // Found by its label also when another has taken its name.
    let label = format!("LABEL {LABEL}={name}");
    run(on(engine).args(["import", "--change", "CMD [\"/tenant\"]", "--change", &label]).arg(archive).arg(name));
}

const LABEL: &str = "berth.story";

/// What `docker` says about the Engine on that socket.
pub fn docker(engine: &Path, words: &[&str]) -> String {
    run(on(engine).args(words))
}

/// Like [`docker`], but `None` if the command fails, for objects that may have been removed meanwhile.
pub fn try_docker(engine: &Path, words: &[&str]) -> Option<String> {
    let done = on(engine).args(words).output().unwrap();
    done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
}

/// Removes every container, volume and network of the installation `network`, and the image `image`.
pub fn sweep(engine: &Path, network: &str, image: &str) {
    let (label, images) = (format!("label=berth.installation={network}"), format!("label={LABEL}={image}"));
    for (list, remove) in [
        (vec!["ps", "-aq", "--filter", &label], vec!["rm", "-fv"]),
        (vec!["volume", "ls", "-q", "--filter", &label], vec!["volume", "rm", "-f"]),
        (vec!["network", "ls", "-q", "--filter", &label], vec!["network", "rm"]),
        (vec!["images", "-q", "--filter", &images], vec!["rmi", "-f"]),
    ] {
        let Ok(there) = on(engine).args(&list).output() else { continue };
        let there = String::from_utf8_lossy(&there.stdout).into_owned();
        let mut things: Vec<&str> = there.split_whitespace().collect();
        things.dedup();
        if !things.is_empty() {
            let _ = on(engine).args(&remove).args(&things).output();
        }
    }
    forget_firewall(network);
}

/// Removes the rules that an installation set on this host.
pub fn forget_firewall(network: &str) {
    let _ = Command::new("nft").args(["delete", "table", "inet", &format!("instances-{network}")]).output();
}

fn on(engine: &Path) -> Command {
    let mut docker = Command::new("docker");
    docker.arg("--host").arg(format!("unix://{}", engine.display()));
    docker
}

fn run(command: &mut Command) -> String {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    String::from_utf8(done.stdout).unwrap()
}
