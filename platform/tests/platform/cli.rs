//! The operator's command line: the `berth` binary as a process of its own, on the database of the platform under test.

use berth::config::Config;
use tokio::process::Command;

use berth_testing::fake_platform::FakePlatform;
use berth_testing::sqlite;

/// The result of one command.
#[derive(Debug)]
pub struct CommandOutput {
    pub succeeded: bool,
    /// Standard output, then standard error.
    pub text: String,
}

/// Runs `berth` with these arguments and the settings of the platform under test.
pub async fn berth(config: &Config, arguments: &[&str]) -> CommandOutput {
    let output = Command::new(env!("CARGO_BIN_EXE_berth"))
        .args(arguments)
        .env_clear()
        .envs([
            ("BERTH_DOMAIN", "example.com"),
            ("BERTH_SECRET", "a secret for stories, 32 characters and more"),
            ("BERTH_DATA_DIR", config.data_dir.to_str().unwrap()),
            ("DATABASE_URL", &*config.database_url),
        ])
        .output()
        .await
        .unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    CommandOutput { succeeded: output.status.success(), text }
}

/// The words of the line about `handle`, without the handle.
async fn listed(config: &Config, noun: &str, handle: &str) -> String {
    let output = berth(config, &[noun, "list"]).await;
    assert!(output.succeeded, "{output:?}");
    let line = output.text.lines().find(|line| line.starts_with(handle)).unwrap_or_default();
    line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scheduled_deletion_is_shown_in_standard_terms_and_can_be_cancelled() {
    let platform = FakePlatform::on(sqlite().await, &[]).await;
    platform.settle_in("alice").await;
    let config = &platform.app.config;
    assert_eq!(listed(config, "user", "alice").await, "member active 1");

    let deleted = berth(config, &["user", "delete", "alice"]).await;
    assert!(deleted.succeeded && deleted.text.contains("in 7.0 days its container, files and logins"), "{deleted:?}");
    assert!(deleted.text.contains("berth user cancel-deletion alice"), "{deleted:?}");
    assert_eq!(listed(config, "user", "alice").await, "member deletion scheduled 1");
    assert!(listed(config, "instance", "alice").await.contains(" deletion scheduled "));
    for refused in [["user", "suspend", "alice"], ["user", "delete", "alice"], ["instance", "wake", "alice"]] {
        let refused = berth(config, &refused).await;
        assert!(!refused.succeeded && refused.text.contains("scheduled for deletion"), "{refused:?}");
    }

    let cancelled = berth(config, &["user", "cancel-deletion", "alice"]).await;
    assert!(cancelled.succeeded && cancelled.text.contains("The deletion of alice is cancelled."), "{cancelled:?}");
    assert_eq!(listed(config, "user", "alice").await, "member active 1");
    assert!(!listed(config, "instance", "alice").await.contains("deletion"));
    let again = berth(config, &["user", "cancel-deletion", "alice"]).await;
    assert!(again.succeeded && again.text.contains("No deletion of alice was scheduled."), "{again:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn overrides_of_settings_and_limits_return_to_the_default() {
    let platform = FakePlatform::on(sqlite().await, &[]).await;
    platform.settle_in("alice").await;
    let config = &platform.app.config;
    let limits = async |arguments: &[&str]| {
        let output = berth(config, &[&["quota", "set", "alice"], arguments].concat()).await;
        assert!(output.succeeded, "{output:?}");
        output.text
    };
    let before = berth(config, &["quota", "show", "alice"]).await.text;
    let changed = limits(&["--concurrent", "2", "--requests", "7", "--day", "1.50"]).await;
    for line in ["concurrent calls   2", "calls per minute   7", "per day            $1.50"] {
        assert!(changed.contains(line), "{changed}");
    }
    let default = "default";
    assert_eq!(limits(&["--concurrent", default, "--requests", default, "--day", default]).await, before);

    for (arguments, reason) in [
        (&["quota", "set", "alice", "--day", "much"][..], "or \"default\""),
        (&["quota", "set", "alice"], "required arguments"),
        (&["instance", "set", "alice", "--stop-after", "size"], "a whole number of seconds, or \"default\""),
        (&["instance", "show", "bob"], "berth instance list"),
        (&["prices", "activate", "nothing"], "berth prices list"),
    ] {
        let refused = berth(config, arguments).await;
        assert!(!refused.succeeded && refused.text.contains(reason), "{arguments:?}: {refused:?}");
    }
    for seconds in ["60", default] {
        let set = berth(config, &["instance", "set", "alice", "--freeze-after", seconds]).await;
        assert!(set.succeeded && set.text.contains("The settings of alice are changed."), "{set:?}");
    }
}
