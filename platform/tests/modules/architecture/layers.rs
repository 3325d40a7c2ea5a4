//! Direction of imports between the layers and the modules of the platform.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use super::assert_none;
use super::imports::imported_parts;
use super::sources::{Source, sources};

const LAYERS: [&str; 9] =
    ["web", "edge", "llm", "instance_api", "cli", "serve", "control_socket", "provisioner", "demo"];
/// Layers that speak HTTP to a browser, a program or an operator. What they share stands in `http`, below them.
const HTTP_LAYERS: [&str; 6] = ["web", "edge", "llm", "instance_api", "cli", "serve"];

/// Whether `part` is a module: it registers what it contributes. `ops` runs what the others register.
fn is_module(part: &str) -> bool {
    static MODULES: LazyLock<BTreeSet<&str>> = LazyLock::new(|| {
        let registrations = sources().iter().filter(|source| source.name() == "registration.rs");
        registrations.map(Source::part).chain(["ops"]).collect()
    });
    MODULES.contains(part)
}

/// The imports of `source` that point up.
fn imports_of_what_is_above(source: &Source) -> Vec<String> {
    // These three put the platform together.
    if matches!(source.path.as_str(), "lib.rs" | "main.rs" | "app.rs") || LAYERS.contains(&source.part()) {
        return Vec::new();
    }
    let is_above = |import: &str| match import {
        "app" => true,
        // `http` stands between: above the modules, whose types it formats, and below the layers.
        "http" => source.part() != "http",
        import if is_module(import) => !is_module(source.part()) && source.part() != "http",
        import => LAYERS.contains(&import),
    };
    imports(source).iter().filter(|import| is_above(import)).map(|import| arrow(source, import)).collect()
}

/// The HTTP layers that the HTTP layer of `source` imports.
fn imports_of_other_layers(source: &Source) -> Vec<String> {
    // The composition root knows every layer: it binds the listeners and dispatches by Host.
    if !HTTP_LAYERS.contains(&source.part()) || source.part() == "serve" {
        return Vec::new();
    }
    let imports = imports(source);
    let others = imports.iter().filter(|i| HTTP_LAYERS.contains(&i.as_str()) && *i != source.part());
    // `berth serve` is a command, so `cli` imports `serve`.
    let others = others.filter(|i| !(source.part() == "cli" && *i == "serve"));
    others.map(|import| arrow(source, import)).collect()
}

/// What keeps a `rules.rs` from being pure decisions.
fn impurities(source: &Source) -> Vec<String> {
    let types =
        ["clock", "money", "db", "handle", "containers", "providers", "config", "quota", "instances", "accounts"];
    let imports = imports(source);
    let imports = imports.iter().filter(|i| !types.contains(&i.as_str()) && *i != source.part());
    let effects = ["async fn", ".await", "tokio::", "std::fs", "Clock::"];
    let effects = effects.iter().filter(|effect| source.code().contains(*effect));
    let effects = effects.map(|effect| format!("{} contains {effect}", source.path));
    imports.map(|import| arrow(source, import)).chain(effects).collect()
}

fn knows_http(source: &Source) -> bool {
    ["axum", "hyper", "reqwest"].iter().any(|krate| source.text.contains(&format!("{krate}::")))
}

fn imports(source: &Source) -> BTreeSet<String> {
    imported_parts(source)
}

fn arrow(source: &Source, import: &str) -> String {
    format!("{} imports {import}", source.path)
}

#[test]
fn imports_point_down() {
    let wrong = sources().iter().flat_map(imports_of_what_is_above).collect();
    assert_none("HTTP layers call modules, modules stand on the ground, never the other way", wrong);
}

#[test]
fn no_http_layer_imports_another() {
    let wrong = sources().iter().flat_map(imports_of_other_layers).collect();
    assert_none("An HTTP layer takes what it shares with others from `http`", wrong);
}

#[test]
fn modules_know_no_http() {
    let modules = sources().iter().filter(|s| is_module(s.part()));
    assert_none("Modules that know HTTP", modules.filter(|s| knows_http(s)).map(|s| s.path.clone()).collect());
}

#[test]
fn rules_are_pure() {
    let wrong = sources().iter().filter(|s| s.name() == "rules.rs").flat_map(impurities).collect();
    assert_none("A rules.rs decides and does nothing", wrong);
}

#[test]
fn a_module_is_known_by_its_registration() {
    let modules = [
        "accounts",
        "alarms",
        "certificates",
        "domains",
        "instances",
        "ops",
        "own_keys",
        "quota",
        "sharing",
        "webhooks",
    ];
    assert!(modules.iter().all(|module| is_module(module)));
    assert!(!["web", "http", "db", "config", "net"].iter().any(|part| is_module(part)));
}

#[test]
fn an_import_that_points_up_or_aside_is_found() {
    let module = Source::new("alarms/mod.rs", "use crate::{db::Db, web::{routes}};\nuse super::http::format;");
    assert_eq!(imports_of_what_is_above(&module), ["alarms/mod.rs imports http", "alarms/mod.rs imports web"]);
    let ground = Source::new("db/mod.rs", "fn f() { crate::quota::g() }");
    assert_eq!(imports_of_what_is_above(&ground), ["db/mod.rs imports quota"]);
    let layer = Source::new("edge/visit.rs", "use crate::http::assets;\nuse crate::llm::Clamp;");
    assert_eq!(imports_of_other_layers(&layer), ["edge/visit.rs imports llm"]);
}

#[test]
fn a_rule_that_does_something_is_found() {
    let rules = Source::new("alarms/rules.rs", "use super::Alarm;\nuse crate::ops::Jobs;\nasync fn f() {}");
    assert_eq!(impurities(&rules), ["alarms/rules.rs imports ops", "alarms/rules.rs contains async fn"]);
    assert!(knows_http(&Source::new("alarms/mod.rs", "use axum::Router;")));
}
