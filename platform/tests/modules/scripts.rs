//! The shell scripts of the repository: which tests a soak test selects, and that a failure ends the run.

use std::path::Path;
use std::process::{Command, Output};

/// The modules in `folder` by their paths, each after `parent`: `kill9::`, `quota::corrections::`.
fn test_modules(folder: &Path, parent: &str) -> Vec<String> {
    let mut modules = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = format!("{parent}{}::", entry.path().file_stem().unwrap().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            modules.extend(test_modules(&entry.path(), &path));
        }
        modules.push(path);
    }
    modules
}

#[test]
fn a_soak_test_selects_the_tests_of_its_name_and_no_others() {
    let platform = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = std::fs::read_to_string(platform.join("../scripts/soak")).unwrap();
    let table = script.split("told='").nth(1).unwrap().split('\'').next().unwrap();
    for row in table.lines() {
        let [name, _minutes, _profile, binary] = row.split(' ').take(4).collect::<Vec<_>>().try_into().unwrap();
        let mut selected = test_modules(&platform.join("tests").join(binary), "");
        selected.retain(|module| module.contains(&format!("{name}::")));
        assert!(!selected.is_empty(), "{row}: no module of tests/{binary} has that name");
        for module in selected {
            assert!(module.split("::").any(|segment| segment == name), "{row}: selects {module} as well");
        }
    }
}

/// Runs `script` with the functions of `scripts/lib.sh`.
fn bash(script: &str) -> Output {
    let lib = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/lib.sh");
    let script = format!("set -euo pipefail; . {}; trap print_times EXIT; {script}", lib.display());
    Command::new("bash").args(["-c", &script]).output().unwrap()
}

#[test]
fn a_failure_inside_a_timed_part_ends_the_script_and_is_named() {
    let failed = bash("build() { false; echo went on; }; timed first true; timed build build; echo went on");
    let stdout = String::from_utf8(failed.stdout).unwrap();
    assert!(!failed.status.success());
    assert!(!stdout.contains("went on"), "{stdout}");
    assert!(stdout.contains("s  first\n") && stdout.contains("s  build: failed, see above\n"), "{stdout}");
    let whole = bash("timed first true; timed second true; echo went on");
    let stdout = String::from_utf8(whole.stdout).unwrap();
    assert!(whole.status.success() && stdout.starts_with("went on\n") && !stdout.contains("failed"), "{stdout}");
}

#[test]
fn no_script_times_a_part_where_bash_ignores_failures_inside() {
    let script = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/test")).unwrap();
    let mut timed = script.lines().filter(|line| line.contains("timed ")).peekable();
    assert!(timed.peek().is_some());
    for line in timed {
        assert!(line.starts_with("timed ") && !line.contains("||") && !line.contains("&&"), "{line}");
    }
}
