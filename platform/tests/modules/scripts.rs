//! The shell scripts of the repository: which tests a soak test selects.

use std::path::Path;

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
