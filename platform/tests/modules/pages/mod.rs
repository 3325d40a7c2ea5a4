//! Rendering of every page with sample data. The HTML is left in `tmp/pages` of the target folder, to be looked at.

mod samples;

use std::path::Path;

/// Parts of every page, for assistive technology, small screens and translation.
const NEEDED: [&str; 5] = [
    "<html lang=\"en\">",
    "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">",
    "<a class=\"skip\" href=\"#main\">",
    "<main id=\"main\">",
    "<h1",
];

/// Inline scripts and styles, which the content security policy blocks.
const REFUSED: [&str; 5] = [" style=", "<style", " onclick=", "javascript:", "<script>"];

#[test]
fn every_page_renders() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages");
    std::fs::create_dir_all(&folder).unwrap();
    for (name, html) in samples::all() {
        for needed in NEEDED {
            assert!(html.contains(needed), "{name} has no {needed}");
        }
        for refused in REFUSED {
            assert!(!html.contains(refused), "{name} has {refused}");
        }
        assert_eq!(html.matches("<h1").count(), 1, "{name} has one headline");
        std::fs::write(folder.join(format!("{name}.html")), html).unwrap();
    }
}

#[test]
fn what_a_person_typed_is_never_markup() {
    let html = samples::sign_up_handle("<script>alert(1)</script>\"><b>");
    assert!(!html.contains("<script>alert") && !html.contains("\"><b>"));
}
