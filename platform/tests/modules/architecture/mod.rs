//! Rules of the architecture that a compiler does not know: direction of imports, single writers, what does not land.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use berth::config::VARIABLES;

const LAYERS: [&str; 9] =
    ["web", "edge", "llm", "instance_api", "cli", "serve", "control_socket", "provisioner", "demo"];
const MODULES: [&str; 10] =
    ["accounts", "instances", "quota", "own_keys", "webhooks", "alarms", "sharing", "domains", "certificates", "ops"];
/// Layers that speak HTTP to a browser, a program or an operator. What they share stands in `http`, below them.
const HTTP_LAYERS: [&str; 6] = ["web", "edge", "llm", "instance_api", "cli", "serve"];
/// A longer file is two things; split it, or say here why it is one.
const LONGEST_FILE: usize = 500;

struct Source {
    /// Below `platform/src`, with slashes.
    path: String,
    text: String,
}

impl Source {
    fn part(&self) -> &str {
        self.path.split(['/', '.']).next().expect("a path has a first part")
    }

    fn name(&self) -> &str {
        self.path.rsplit('/').next().expect("a path has a last part")
    }

    /// The parts of the platform that it names by `crate::`, outside its own tests.
    fn imports(&self) -> BTreeSet<&str> {
        let code = self.text.split("#[cfg(test)]").next().expect("a text has a beginning");
        let mut found: BTreeSet<&str> = BTreeSet::new();
        for at in code.split("crate::").skip(1) {
            if let Some(list) = at.strip_prefix('{') {
                let list = list.split("};").next().expect("a list ends");
                found.extend(list.split(',').map(|item| word(item.trim())));
            } else {
                found.insert(word(at));
            }
        }
        found
    }
}

fn word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().expect("a text has a beginning")
}

/// The files below `platform/src` by their path there, and those of the crates below `platform/crates` as `CRATE/PATH`.
fn sources() -> Vec<Source> {
    let platform = Path::new(env!("CARGO_MANIFEST_DIR"));
    let crates = std::fs::read_dir(platform.join("crates")).unwrap().map(|entry| entry.unwrap().file_name());
    // What tests share is no part of the platform.
    let crates = crates.map(|name| name.into_string().unwrap()).filter(|name| name != "testing");
    let mut sources = sources_below(&platform.join("src"), "");
    for name in crates {
        let below = format!("{name}/");
        sources.extend(sources_below(&platform.join("crates").join(name).join("src"), &below));
    }
    sources
}

fn sources_below(root: &Path, prefix: &str) -> Vec<Source> {
    files_below(root)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "rs"))
        .map(|path| Source {
            text: std::fs::read_to_string(&path).unwrap(),
            path: format!("{prefix}{}", path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/")),
        })
        .collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            found.extend(files_below(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}

fn assert_none(what: &str, offenders: Vec<String>) {
    assert!(offenders.is_empty(), "{what}:\n  {}", offenders.join("\n  "));
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.path).collect();
    assert_none("These files do not open with a //! sentence", silent);
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for source in sources() {
        // These three put the platform together.
        if matches!(source.path.as_str(), "lib.rs" | "main.rs" | "app.rs") || LAYERS.contains(&source.part()) {
            continue;
        }
        let is_module = MODULES.contains(&source.part());
        for import in source.imports() {
            let is_above = match import {
                "app" => true,
                // `http` stands between: above the modules, whose types it formats, and below the layers.
                "http" => source.part() != "http",
                import if MODULES.contains(&import) => !is_module && source.part() != "http",
                import => LAYERS.contains(&import),
            };
            if is_above {
                wrong.push(format!("{} imports {import}", source.path));
            }
        }
    }
    assert_none("HTTP layers call modules, modules stand on the ground, never the other way", wrong);
}

#[test]
fn no_http_layer_imports_another() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|s| HTTP_LAYERS.contains(&s.part())) {
        // The composition root knows every layer: it binds the listeners and dispatches by Host.
        if source.part() == "serve" {
            continue;
        }
        let others = source.imports().into_iter().filter(|i| HTTP_LAYERS.contains(i) && *i != source.part());
        // `berth serve` is a command, so `cli` imports `serve`.
        let others = others.filter(|i| !(source.part() == "cli" && *i == "serve"));
        wrong.extend(others.map(|import| format!("{} imports {import}", source.path)));
    }
    assert_none("An HTTP layer takes what it shares with others from `http`", wrong);
}

#[test]
fn modules_do_not_import_each_other() {
    let arrows: BTreeSet<(String, String)> = sources()
        .iter()
        .filter(|s| MODULES.contains(&s.part()))
        .flat_map(|s| s.imports().into_iter().map(|i| (s.part().to_owned(), i.to_owned())).collect::<Vec<_>>())
        .filter(|(from, to)| from != to && MODULES.contains(&to.as_str()))
        .collect();
    let circles = arrows
        .iter()
        .filter(|(from, to)| arrows.contains(&(to.clone(), from.clone())))
        .map(|(a, b)| format!("{a} <-> {b}"));
    assert_none("Modules that use each other", circles.collect());
}

#[test]
fn modules_know_no_http() {
    let wrong = sources()
        .into_iter()
        .filter(|s| MODULES.contains(&s.part()))
        .filter(|s| ["axum", "hyper", "reqwest"].iter().any(|krate| s.text.contains(&format!("{krate}::"))))
        .map(|s| s.path);
    assert_none("Modules that know HTTP", wrong.collect());
}

#[test]
fn rules_are_pure() {
    let types = ["clock", "db", "handle", "containers", "config", "quota", "instances", "accounts"];
    let mut wrong = Vec::new();
    for source in sources().into_iter().filter(|s| s.name() == "rules.rs") {
        wrong.extend(
            source.imports().into_iter().filter(|i| !types.contains(i)).map(|i| format!("{} imports {i}", source.path)),
        );
        for word in ["async fn", ".await", "tokio::", "std::fs", "Clock::"] {
            if source.text.split("#[cfg(test)]").next().unwrap().contains(word) {
                wrong.push(format!("{} contains {word}", source.path));
            }
        }
    }
    assert_none("A rules.rs decides and does nothing", wrong);
}

#[test]
fn libraries_stay_behind_their_seams() {
    let mut wrong = Vec::new();
    for source in sources() {
        let is_store = source.name() == "store.rs" || source.path.contains("/store/") || source.name() == "entities.rs";
        if ["sea_orm::", "sea_orm_migration::"].iter().any(|krate| source.text.contains(krate))
            && source.part() != "db"
            && source.path != "ground/database.rs"
            && source.path != "ground/ids.rs"
            && !is_store
        {
            wrong.push(format!("{} knows sea-orm", source.path));
        }
        if source.text.contains("bollard::") && !source.path.starts_with("containers/docker") {
            wrong.push(format!("{} knows bollard", source.path));
        }
    }
    assert_none("Only db and stores know sea-orm, only containers/docker knows bollard", wrong);
}

#[test]
fn only_the_reconciler_changes_a_container() {
    let may = ["instances", "containers", "provisioner"];
    let verbs = [".create(", ".start(", ".freeze(", ".thaw(", ".stop(", ".remove_container("];
    let wrong = sources()
        .into_iter()
        .filter(|s| !may.contains(&s.part()) && s.imports().contains("containers"))
        .filter(|s| verbs.iter().any(|verb| s.text.contains(&format!("host{verb}"))))
        .map(|s| s.path);
    assert_none("Somebody else changes a container", wrong.collect());
}

#[test]
fn files_are_taken_away_in_one_place_that_the_loop_does_not_know() {
    for (calls, only) in [
        (&[".bury_volume(", ".unbury_volume(", ".destroy_volume("][..], "instances/deletion.rs"),
        (&[".mark_files(", ".unmark_files(", ".destroy_files("], "accounts/deletion.rs"),
    ] {
        let outside: Vec<Source> = sources()
            .into_iter()
            .filter(|source| !["containers", "provisioner"].contains(&source.part()) && source.path != only)
            .collect();
        let wrong = outside.into_iter().filter(|s| calls.iter().any(|call| s.text.contains(call))).map(|s| s.path);
        assert_none(&format!("Only {only} may call {calls:?}"), wrong.collect());
    }
}

#[test]
fn wishes_and_facts_have_one_writer_each() {
    for (call, writer) in [("store::set_wish(", "instances/wishes.rs"), ("store::set_fact(", "instances/steps.rs")] {
        let writers: Vec<String> = sources().into_iter().filter(|s| s.text.contains(call)).map(|s| s.path).collect();
        assert_eq!(writers, [writer], "{call} is called from elsewhere");
    }
}

#[test]
fn nothing_half_done_lands() {
    let words = ["TO".to_owned() + "DO", "FIX".to_owned() + "ME", "todo".to_owned() + "!("];
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut wrong = Vec::new();
    for folder in [
        "platform/src",
        "platform/crates",
        "platform/tests",
        "migrations/src",
        "instance-image/src",
        "pages",
        "scripts",
        "caddy",
    ] {
        for path in files_below(&repository.join(folder)) {
            let Ok(text) = std::fs::read_to_string(&path) else { continue };
            wrong.extend(
                words.iter().filter(|w| text.contains(w.as_str())).map(|w| format!("{} says {w}", path.display())),
            );
        }
    }
    assert_none("Half done", wrong);
}

#[test]
fn no_file_is_two_things() {
    let long = sources()
        .into_iter()
        .filter(|s| s.text.lines().count() > LONGEST_FILE)
        .map(|s| format!("{}: {} lines", s.path, s.text.lines().count()));
    assert_none("Longer than anybody wants to open", long.collect());
}

#[test]
fn the_example_environment_is_complete() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.env.example");
    let example = std::fs::read_to_string(path).expect(".env.example is there");
    let shown: BTreeSet<&str> = example
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once('='))
        .map(|(name, _)| name)
        .filter(|name| !name.contains(' '))
        .collect();
    let known: BTreeSet<&str> = VARIABLES.iter().map(|v| v.name).collect();
    assert_eq!(shown, known, ".env.example and VARIABLES of berth-ground differ");
    for variable in VARIABLES {
        assert!(
            example.contains(&format!("{}={}", variable.name, variable.default)),
            "{} has another default",
            variable.name
        );
        assert!(example.contains(variable.doc), "{} is described otherwise", variable.name);
    }
}
