//! Any image that keeps the instance contract will do: another program, made by somebody else, on the same files; and
//! back to it from one that does not start.

use std::process::Command;

use berth_testing::chromium::ChromiumUser;
use berth_testing::deployed_stack::DeployedStack;

/// BusyBox's web server on what the default image wrote into the volume.
const SECOND: &str = "stories-second:1";
/// Ends right after its start.
const BROKEN: &str = "stories-broken:1";
const DEFAULT: &str = "berth-instance:latest";

/// For BERTH_IMAGES.
pub fn allowed() -> String {
    format!("{DEFAULT},{SECOND},{BROKEN}")
}

/// Puts the two images on the Engine: one static program from Debian's busybox-static, and nothing else.
pub fn import() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("bin")).unwrap();
    std::fs::copy("/bin/busybox", folder.path().join("bin/busybox")).expect("the package busybox-static is installed");
    let archive = folder.path().join("image.tar");
    run(Command::new("tar").arg("-C").arg(folder.path()).arg("-cf").arg(&archive).arg("bin"));
    let serve = r#"CMD ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/home/berth/.berth"]"#;
    for (image, program) in [(SECOND, serve), (BROKEN, r#"CMD ["/bin/busybox", "false"]"#)] {
        run(Command::new("docker").args(["import", "--change", program]).arg(&archive).arg(image));
    }
}

pub async fn runs_on_the_same_files(stack: &DeployedStack, alice: &ChromiumUser) {
    let visits = super::visits(alice).await;
    let page = format!("{}/visits", stack.origin("alice"));
    assert_eq!(move_to(stack, SECOND), "alice is upgraded.");
    alice.goto(&page).await;
    alice.until_it_says(&visits.to_string()).await;
    stack.berth(&["instance", "sleep", "alice"]);
    stack.until_fact("alice", &["frozen"]);
    alice.goto(&page).await;
    alice.until_it_says(&visits.to_string()).await;

    let said = move_to(stack, BROKEN);
    assert!(said.contains("the previous one was put back"), "{said}");
    alice.goto(&page).await;
    alice.until_it_says(&visits.to_string()).await;

    assert_eq!(move_to(stack, DEFAULT), "alice is upgraded.");
    alice.goto(&stack.origin("alice")).await;
    alice.until_it_says("AI budget left").await;
    assert!(super::visits(alice).await > visits);
}

fn move_to(stack: &DeployedStack, image: &str) -> String {
    stack.berth(&["instance", "set", "alice", "--image", image]);
    stack.berth(&["instance", "upgrade", "alice"])
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}
