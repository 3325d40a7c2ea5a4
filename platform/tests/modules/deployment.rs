//! The scripts and units that run Berth on a host: each secret reaches its reader alone, the host's secret and the
//! operator's images stay, and volumes move without a gap. Their functions run in bash, on folders of the story's own.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use berth_ground::settings::{SECRETS, SecretReader};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// Runs `body` with the functions of `scripts/NAME`, whose last line would run the script. `$dir` is `dir`.
fn bash(name: &str, dir: &Path, body: &str) -> Output {
    let whole = format!("eval \"$(sed '$d' \"$0\")\"\ndir={}\n{body}", dir.display());
    let mut command = Command::new("bash");
    command.args(["-euo", "pipefail", "-c", &whole]).arg(root().join("scripts").join(name)).stdin(Stdio::null());
    command.env_clear().env("HOME", dir).env("BERTH_DATA_DIR", dir);
    let path = format!("{}:/usr/local/sbin:/usr/sbin:/sbin:/usr/local/bin:/usr/bin:/bin", dir.join("bin").display());
    command.env("PATH", path).output().expect("bash runs")
}

fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success(), "this was no refusal");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn value_of(secret: &str) -> String {
    format!("the-value-of-{}", secret.to_lowercase())
}

/// A .env with every secret, and with a setting that is none.
fn all_settings() -> String {
    let secrets = SECRETS.iter().map(|secret| format!("{}={}\n", secret.name, value_of(secret.name)));
    secrets.chain(["BERTH_DOMAIN=example.com\n".to_owned()]).collect()
}

/// Asserts that `text`, all that a part is given, has the secrets of `reader` and no other.
fn assert_own_secrets(part: &str, text: &str, reader: Option<SecretReader>) {
    for secret in SECRETS {
        let is_reader = reader == Some(secret.reader);
        assert_eq!(text.contains(&value_of(secret.name)), is_reader, "{part} and {}", secret.name);
    }
}

/// Paths of `scripts/deploy` in a folder of the story's own.
const DEPLOY: &str = "here=$dir settings=$dir/etc data=$dir/data volumes=$dir/volumes\n";

#[test]
fn under_systemd_each_secret_reaches_its_reader_alone() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("env"), all_settings()).unwrap();
    succeeded(&bash("deploy", dir.path(), &format!("{DEPLOY} write_settings")));
    for unit in std::fs::read_dir(root().join("scripts/systemd")).unwrap().map(Result::unwrap) {
        let name = unit.file_name().into_string().unwrap();
        let reader = match name.as_str() {
            "berth.service" => Some(SecretReader::Platform),
            "berth-caddy.service" => Some(SecretReader::Caddy),
            "berth-provisioner.service" => None,
            other => panic!("say here which secrets {other} may read"),
        };
        let unit = std::fs::read_to_string(unit.path()).unwrap();
        let files = unit.lines().filter_map(|line| line.strip_prefix("EnvironmentFile=/etc/berth/"));
        let given: String =
            files.map(|file| std::fs::read_to_string(dir.path().join("etc").join(file)).unwrap()).collect();
        assert!(given.contains("BERTH_DOMAIN=example.com"), "{name} lacks the settings");
        assert_own_secrets(&name, &given, reader);
    }
    for file in std::fs::read_dir(dir.path().join("etc")).unwrap().map(Result::unwrap) {
        let text = std::fs::read_to_string(file.path()).unwrap();
        if SECRETS.iter().any(|secret| text.contains(&value_of(secret.name))) {
            assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.path());
        }
    }
    assert!(!dir.path().join("env").exists(), "the settings that were sent do not stay");
}

#[test]
fn under_scripts_up_each_secret_reaches_its_reader_alone() {
    let dir = tempfile::tempdir().unwrap();
    for program in ["run/berth", "run/berth-provisioner", "bin/caddy"] {
        let program = dir.path().join(program);
        std::fs::create_dir_all(program.parent().unwrap()).unwrap();
        std::fs::write(&program, "#!/bin/sh\nenv\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let exports: String = all_settings().lines().map(|line| format!("export {line}\n")).collect();
    let body = "
        load_settings
        needs_demo() { true; }
        wait_until() { :; }
        run_part() { local name=$1; shift 2; \"$@\" >\"$dir/$name.env\"; }
        start_parts";
    succeeded(&bash("up", dir.path(), &format!("{exports}{body}")));
    for (part, reader) in [
        ("platform", Some(SecretReader::Platform)),
        ("caddy", Some(SecretReader::Caddy)),
        ("provisioner", None),
        ("demo-upstream", None),
    ] {
        let given = std::fs::read_to_string(dir.path().join(format!("{part}.env"))).unwrap();
        assert!(given.contains("BERTH_DOMAIN=example.com"), "{part} lacks the settings");
        assert_own_secrets(part, &given, reader);
    }
}

#[test]
fn under_compose_each_secret_reaches_its_reader_alone() {
    let file = std::fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    let services = file.split_once("\nservices:\n").unwrap().1.split_once("\nvolumes:\n").unwrap().0;
    let mut parts: Vec<(&str, String)> = Vec::new();
    for line in services.lines().filter(|line| !line.trim_start().starts_with('#')) {
        match line.strip_prefix("  ").filter(|line| !line.starts_with(' ')).and_then(|line| line.strip_suffix(':')) {
            Some(name) => parts.push((name, String::new())),
            None => parts.last_mut().into_iter().for_each(|(_, text)| *text += &format!("{}\n", line.trim())),
        }
    }
    for (name, text) in parts {
        let reader = match name {
            "platform" => Some(SecretReader::Platform),
            "caddy" => Some(SecretReader::Caddy),
            "provisioner" | "demo-upstream" => None,
            other => panic!("say here which secrets {other} may read"),
        };
        let reads_all = text.contains("env_file:");
        for secret in SECRETS {
            let is_emptied = text.contains(&format!("{}: \"\"\n", secret.name));
            let is_given = text.contains(&format!("{}: ${{{}", secret.name, secret.name));
            assert_eq!(
                (reads_all || is_given) && !is_emptied,
                reader == Some(secret.reader),
                "{name} and {}",
                secret.name
            );
        }
    }
}

#[test]
fn a_deployment_never_replaces_the_secret_of_the_host() {
    let kept = "BERTH_SECRET=the secret of the host, 32 characters";
    // The secret of the host, the one that is sent, whether the host has a database, and what becomes of it.
    for (host, sent, has_database, outcome) in [
        (Some(kept), "", true, Ok(kept)),
        (Some(kept), kept, true, Ok(kept)),
        (Some(kept), "BERTH_SECRET=\"the secret of the host, 32 characters\"", true, Ok(kept)),
        (Some(kept), "BERTH_SECRET=another secret of 32 characters too", true, Err("Remove it from .env")),
        (Some(kept), "export BERTH_SECRET=another secret of 32 characters too", true, Err("Remove it from .env")),
        (None, kept, false, Ok(kept)),
        (None, kept, true, Ok(kept)),
        (None, "", false, Ok("BERTH_SECRET=")),
        (None, "", true, Err("restore that file")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let secrets = dir.path().join("etc/secrets.env");
        std::fs::create_dir_all(dir.path().join("etc")).unwrap();
        std::fs::create_dir_all(dir.path().join("data")).unwrap();
        host.iter().for_each(|line| std::fs::write(&secrets, format!("{line}\nOPENAI_API_KEY=old\n")).unwrap());
        if has_database {
            std::fs::write(dir.path().join("data/berth.db"), "").unwrap();
        }
        std::fs::write(dir.path().join("env"), format!("{sent}\nOPENAI_API_KEY=new\n")).unwrap();
        let done = bash("deploy", dir.path(), &format!("{DEPLOY} refuse_other_secret; write_settings"));
        let case = format!("host {host:?}, sent {sent:?}");
        match outcome {
            Ok(line) => {
                succeeded(&done);
                let written = std::fs::read_to_string(&secrets).unwrap();
                let first = written.lines().next().unwrap();
                assert!(first.starts_with(line) && first.len() >= "BERTH_SECRET=".len() + 32, "{case}: {first}");
                assert!(written.contains("OPENAI_API_KEY=new"), "{case}: other secrets are the operator's to change");
            }
            Err(words) => {
                assert!(refusal(&done).contains(words), "{case}: {done:?}");
                let written = std::fs::read_to_string(&secrets).unwrap_or_default();
                assert_eq!(written.lines().next(), host, "{case}");
            }
        }
    }
}

#[test]
fn volumes_move_to_roots_own_folder_at_whatever_moment_the_move_is_interrupted() {
    let files = ["berth-1.ext4", "berth-2.ext4", "berth-2.buried"];
    let mut is_whole = false;
    for survived in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("data/volumes"), dir.path().join("volumes"));
        std::fs::create_dir_all(&from).unwrap();
        let inodes = files.map(|name| {
            std::fs::write(from.join(name), name).unwrap();
            std::fs::metadata(from.join(name)).unwrap().ino()
        });
        symlink("/dev/null", from.join("berth-1.dev")).unwrap();
        std::fs::write(from.join("berth-3.new"), "").unwrap();
        // Killed before its next change to a file.
        let killed = format!(
            "{DEPLOY} left={survived}
            ln() {{ [ $((left--)) -gt 0 ] || kill -9 $BASHPID; command ln \"$@\"; }}
            rm() {{ [ $((left--)) -gt 0 ] || kill -9 $BASHPID; command rm \"$@\"; }}
            move_volumes $dir/data/volumes $dir/volumes"
        );
        is_whole = bash("deploy", dir.path(), &killed).status.success();
        for (name, inode) in files.iter().zip(inodes) {
            let there = [&from, &to].into_iter().filter_map(|folder| std::fs::metadata(folder.join(name)).ok());
            let found: Vec<u64> = there.map(|file| file.ino()).collect();
            assert!(!found.is_empty() && found.iter().all(|there| *there == inode), "{name} after {survived} changes");
        }
        succeeded(&bash("deploy", dir.path(), "move_volumes $dir/data/volumes $dir/volumes"));
        let mut moved: Vec<PathBuf> = std::fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().path()).collect();
        moved.sort();
        assert_eq!(moved, ["berth-1.ext4", "berth-2.buried", "berth-2.ext4"].map(|name| to.join(name)));
        assert!(!from.exists());
        assert_eq!(std::fs::metadata(&to).unwrap().permissions().mode() & 0o777, 0o700);
        if is_whole {
            break;
        }
        assert!(survived < 20, "the move does not end");
    }
    assert!(is_whole);
}

#[test]
fn volumes_are_not_taken_from_a_folder_that_is_not_roots_own() {
    let dir = tempfile::tempdir().unwrap();
    let (elsewhere, from) = (dir.path().join("elsewhere"), dir.path().join("data/volumes"));
    std::fs::create_dir_all(&elsewhere).unwrap();
    std::fs::create_dir_all(from.parent().unwrap()).unwrap();
    std::fs::write(elsewhere.join("berth-1.ext4"), "another's").unwrap();
    symlink(&elsewhere, &from).unwrap();
    let refused = refusal(&bash("deploy", dir.path(), "move_volumes $dir/data/volumes $dir/volumes"));
    assert!(refused.contains("not root's own folder"), "{refused}");
    assert!(elsewhere.join("berth-1.ext4").exists() && !dir.path().join("volumes/berth-1.ext4").exists());
}

#[test]
fn an_image_that_the_operator_named_is_neither_built_over_nor_removed() {
    let ours = r#"{"Id":"sha256:abc","Config":{"Labels":{"berth.built-from":"an older source"}}}"#;
    let theirs = r#"{"Id":"sha256:abc","Config":{"Labels":{"version":"1"}}}"#;
    let pinned = format!("berth-instance:latest@sha256:{}", "a".repeat(64));
    // BERTH_IMAGES, the Engine's answer about berth-instance:latest, and the changes that the Engine is asked for.
    for (images, there, changes) in [
        ("", "", vec!["/build?t=berth-instance:latest"]),
        ("mine:1, berth-instance:latest", "", vec!["/build?t=berth-instance:latest"]),
        ("berth-instance:latest", ours, vec!["/build?t=berth-instance:latest", "/images/sha256:abc -X DELETE"]),
        ("berth-instance:latest", theirs, vec![]),
        ("mine:1", "", vec![]),
        ("mine:1,my/berth-instance:latest", "", vec![]),
        (&pinned, "", vec![]),
    ] {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("berth-instance"), "").unwrap();
        let body = format!(
            "export BERTH_IMAGES='{images}'
            load_settings
            bin=$dir
            docker_api() {{
              printf '%s\\n' \"$*\" >>$dir/calls
              case $1 in
                /images/berth-instance:latest/json) printf '%s' '{there}' ;;
                /images/sha256:abc/json) printf '%s' '{{\"RepoTags\":[]}}' ;;
                /build*) cat >/dev/null ;;
              esac
            }}
            build_wanted_image"
        );
        succeeded(&bash("up", dir.path(), &body));
        let calls = std::fs::read_to_string(dir.path().join("calls")).unwrap_or_default();
        let asked: Vec<&str> = calls.lines().filter(|call| call.contains(" -X ")).collect();
        assert_eq!(asked.len(), changes.len(), "{images}: {asked:?}");
        assert!(asked.iter().zip(&changes).all(|(call, change)| call.starts_with(change)), "{images}: {asked:?}");
    }
}

#[test]
fn the_default_data_directory_is_not_the_folder_of_the_price_table_unless_data_is_there_already() {
    for (existing, folder) in
        [("data/model_prices.json", ".berth"), ("data/berth.db", "data"), ("data/berth.env", "data")]
    {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("data")).unwrap();
        std::fs::write(dir.path().join(existing), "").unwrap();
        let body = "unset BERTH_DATA_DIR; root=$dir; load_settings; printf '%s' \"$BERTH_DATA_DIR\"";
        assert_eq!(succeeded(&bash("up", dir.path(), body)), dir.path().join(folder).to_str().unwrap(), "{existing}");
    }
    let ignored = std::fs::read_to_string(root().join(".gitignore")).unwrap();
    assert!(ignored.lines().any(|line| line == "/.berth"), "the secret there must not be committed");
}

#[test]
fn scripts_up_raises_the_limit_on_open_files_for_all_parts() {
    let dir = tempfile::tempdir().unwrap();
    let body = "ulimit -Sn 1024; raise_open_files; printf '%s %s\n' \"$(ulimit -Sn)\" \"$(ulimit -Hn)\"";
    let said = succeeded(&bash("up", dir.path(), body));
    let limits: Vec<u64> = said.lines().last().unwrap().split(' ').map(|n| n.parse().unwrap_or(u64::MAX)).collect();
    assert_eq!(limits[0], limits[1], "{said}");
    // Where not even root may raise the hard limit, as in some sandboxes, the operator learns what is missing.
    assert!(limits[0] >= 65_536 || said.contains("Allow 65536"), "{said}");
}
