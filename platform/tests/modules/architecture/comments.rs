//! Comments: what each file opens with, their width, and their language.

use super::assert_none;
use super::sources::{Source, repository, rust_files, sources};
use super::tokens::{TokenKind, tokens};

/// In columns. rustfmt wraps code, not comments.
const WIDTH: usize = 120;
/// Words of a private way of speaking: most sentences with one of them have no clear subject.
const VAGUE_WORDS: [&str; 4] = ["whoever", "whose", "somebody", "nobody"];
/// In a thousand words of comments.
const VAGUE_WORDS_LIMIT: f64 = 1.0;

/// The marks between which a comment stands, in a language of the pages.
struct Delimiters {
    open: &'static str,
    close: &'static str,
}

const BLOCK: Delimiters = Delimiters { open: "/*", close: "*/" };
const TEMPLATE: Delimiters = Delimiters { open: "{#", close: "#}" };
const MARKUP: Delimiters = Delimiters { open: "<!--", close: "-->" };

/// The lines of `source` with a comment that is too wide; in Markdown every line, but for tables and addresses.
fn wide_comments(source: &Source) -> Vec<String> {
    let lines: Vec<&str> = source.text.lines().collect();
    let commented = match source.name().rsplit_once('.').map_or("", |(_, extension)| extension) {
        "rs" => rust_comment_lines(&source.text),
        "js" => [lines_with(&lines, "//"), BLOCK.lines(&lines)].concat(),
        "css" => BLOCK.lines(&lines),
        "html" => [TEMPLATE.lines(&lines), MARKUP.lines(&lines)].concat(),
        "md" => prose_lines(&lines),
        _ if is_script(source) => lines_with(&lines, "#"),
        _ => Vec::new(),
    };
    let wide = commented.into_iter().filter(|number| lines[number - 1].chars().count() > WIDTH);
    wide.map(|number| format!("{}:{number}", source.path)).collect()
}

fn is_script(source: &Source) -> bool {
    source.text.starts_with("#!") || [".sh", ".py", ".yml"].iter().any(|end| source.path.ends_with(end))
}

/// The numbers of the lines that begin with `mark`.
fn lines_with(lines: &[&str], mark: &str) -> Vec<usize> {
    let numbered = lines.iter().enumerate().filter(|(_, line)| line.trim_start().starts_with(mark));
    numbered.map(|(at, _)| at + 1).collect()
}

fn rust_comment_lines(text: &str) -> Vec<usize> {
    let comments = tokens(text).into_iter().filter(|token| token.kind == TokenKind::Comment);
    comments.flat_map(|token| token.line..token.line + token.text.lines().count()).collect()
}

impl Delimiters {
    /// The numbers of the lines on which a comment stands.
    fn lines(&self, lines: &[&str]) -> Vec<usize> {
        let mut is_inside = false;
        let mut found = Vec::new();
        for (at, line) in lines.iter().enumerate() {
            let (opened, closed) = (line.rfind(self.open), line.rfind(self.close));
            if is_inside || opened.is_some() {
                found.push(at + 1);
            }
            // Of several marks on a line, the last one counts for the next line.
            is_inside = match closed {
                Some(closed) => opened.is_some_and(|opened| opened > closed),
                None => is_inside || opened.is_some(),
            };
        }
        found
    }
}

/// The lines of a Markdown file outside code, tables and addresses.
fn prose_lines(lines: &[&str]) -> Vec<usize> {
    let mut is_code = false;
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        is_code ^= line.trim_start().starts_with("```");
        if !is_code && !line.starts_with('|') && !line.contains("://") {
            found.push(at + 1);
        }
    }
    found
}

/// Vague words in a thousand words of the comments of `sources`.
fn vague_words<'a>(sources: impl IntoIterator<Item = &'a Source>) -> f64 {
    let (mut words, mut vague) = (0_u32, 0_u32);
    for source in sources {
        for comment in tokens(&source.text).into_iter().filter(|token| token.kind == TokenKind::Comment) {
            let comment = comment.text.to_lowercase();
            let found: Vec<&str> = comment.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).collect();
            words += u32::try_from(comment.split_whitespace().count()).unwrap();
            vague += u32::try_from(found.iter().filter(|word| VAGUE_WORDS.contains(word)).count()).unwrap();
            vague += u32::try_from(found.windows(2).filter(|pair| *pair == ["what", "is"]).count()).unwrap();
        }
    }
    f64::from(vague) * 1000.0 / f64::from(words.max(1))
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().iter().filter(|s| !s.text.starts_with("//! ")).map(|s| s.path.clone()).collect();
    assert_none("These files do not open with a //! sentence", silent);
}

#[test]
fn comments_are_narrow_enough_for_two_windows() {
    let wide = repository().iter().flat_map(wide_comments).collect();
    assert_none(&format!("Comments wider than {WIDTH} columns"), wide);
}

#[test]
fn comments_name_their_subjects() {
    let vague = vague_words(rust_files());
    assert!(vague <= VAGUE_WORDS_LIMIT, "{vague:.2} in 1,000 words of comments are {VAGUE_WORDS:?} or \"what is\"");
}

#[test]
fn a_wide_comment_is_found_in_every_language() {
    let long = "a ".repeat(70);
    for (path, text) in [
        ("a.rs", format!("fn f() {{\n    /// {long}\n}}")),
        ("a.js", format!("\n// {long}")),
        ("a.css", format!("/* short\n   {long} */")),
        ("a.html", format!("<p>\n{{# {long} #}}")),
        ("a.md", format!("# Title\n{long}")),
        ("scripts/up", format!("#!/bin/sh\n# {long}")),
    ] {
        assert_eq!(wide_comments(&Source::new(path, &text)), [format!("{path}:2")]);
    }
    for (path, text) in [
        ("a.rs", format!("const A: &str = \"\n// {long}\";")),
        ("a.css", format!("/* short */\n{long}")),
        ("a.html", format!("<!-- short -->\n{long}")),
        ("a.md", format!("| {long} |\n```\n{long}\n```")),
    ] {
        assert_eq!(wide_comments(&Source::new(path, &text)), [""; 0]);
    }
}

#[test]
fn vague_words_are_counted_in_comments_alone() {
    let source =
        Source::new("a.rs", "// Whoever asks for what is there, it is what.\nlet nobody = \"whose\"; // Two words.");
    assert!((vague_words([&source]) - 2.0 * 1000.0 / 13.0).abs() < 0.1, "{}", vague_words([&source]));
}
