//! A lexer for Rust sources: enough to tell code from comments and literals, and to leave out what is only for tests.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKind {
    /// An identifier, a keyword or a number.
    Word,
    /// `::`, `->`, or any other single character.
    Mark,
    /// A string or a character.
    Literal,
    Comment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    pub kind: TokenKind,
    pub text: &'a str,
    /// Of the token's first character, from 1.
    pub line: usize,
}

impl Token<'_> {
    pub fn is(&self, text: &str) -> bool {
        self.text == text && matches!(self.kind, TokenKind::Word | TokenKind::Mark)
    }

    pub fn is_word(&self) -> bool {
        self.kind == TokenKind::Word
    }
}

/// Every token of `text`, in order.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut found, mut at, mut line) = (Vec::new(), 0, 1);
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            line += usize::from(first == '\n');
            at += first.len_utf8();
            continue;
        }
        let (kind, length) = next_token(&text[at..], first);
        let token = Token { kind, text: &text[at..at + length], line };
        line += token.text.matches('\n').count();
        at += length;
        found.push(token);
    }
    found
}

/// The tokens of the code of `text`: without comments, and without items under `#[cfg(test)]`.
pub fn code_tokens(text: &str) -> Vec<Token<'_>> {
    let all: Vec<Token<'_>> = tokens(text).into_iter().filter(|token| token.kind != TokenKind::Comment).collect();
    let (mut code, mut at) = (Vec::new(), 0);
    while at < all.len() {
        if starts_with(&all[at..], &["#", "[", "cfg", "(", "test", ")", "]"]) {
            at = item_end(&all, at + 7);
        } else {
            code.push(all[at]);
            at += 1;
        }
    }
    code
}

pub fn starts_with(tokens: &[Token<'_>], marks: &[&str]) -> bool {
    tokens.len() >= marks.len() && tokens.iter().zip(marks).all(|(token, mark)| token.is(mark))
}

/// The position after the bracket that closes the one at `open`.
pub fn closing(tokens: &[Token<'_>], open: usize) -> usize {
    let mut depth = 0_usize;
    for (at, token) in tokens.iter().enumerate().skip(open) {
        if ["(", "[", "{"].iter().any(|mark| token.is(mark)) {
            depth += 1;
        } else if [")", "]", "}"].iter().any(|mark| token.is(mark)) {
            depth -= 1;
            if depth == 0 {
                return at + 1;
            }
        }
    }
    tokens.len()
}

/// The position after the item that begins at `at`: its semicolon, or its last brace.
fn item_end(tokens: &[Token<'_>], mut at: usize) -> usize {
    while at < tokens.len() {
        if tokens[at].is(";") {
            return at + 1;
        }
        if tokens[at].is("{") {
            return closing(tokens, at);
        }
        at = if tokens[at].is("(") || tokens[at].is("[") { closing(tokens, at) } else { at + 1 };
    }
    at
}

/// Kind and length in bytes of the token that `rest` begins with.
fn next_token(rest: &str, first: char) -> (TokenKind, usize) {
    if rest.starts_with("//") {
        return (TokenKind::Comment, rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return (TokenKind::Comment, rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if let Some(length) = literal_length(rest) {
        return (TokenKind::Literal, length);
    }
    if is_part_of_word(first) {
        return (TokenKind::Word, rest.find(|c| !is_part_of_word(c)).unwrap_or(rest.len()));
    }
    let length = if rest.starts_with("::") || rest.starts_with("->") { 2 } else { first.len_utf8() };
    (TokenKind::Mark, length)
}

fn is_part_of_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of the string or character that `rest` begins with, if it does. A lifetime is none.
fn literal_length(rest: &str) -> Option<usize> {
    let body = ["br", "cr", "r", "b", "c", ""].iter().find_map(|prefix| {
        let body = rest.strip_prefix(prefix)?;
        let is_raw = prefix.ends_with('r');
        let is_literal = body.starts_with('"')
            || (is_raw && body.trim_start_matches('#').starts_with('"'))
            || (matches!(*prefix, "" | "b") && body.starts_with('\''));
        is_literal.then_some((prefix.len(), body, is_raw))
    });
    let (prefix, body, is_raw) = body?;
    let length = if is_raw {
        let hashes = body.len() - body.trim_start_matches('#').len();
        let end = format!("\"{}", "#".repeat(hashes));
        body[hashes + 1..].find(&end).map_or(body.len(), |at| hashes + 1 + at + end.len())
    } else if body.starts_with('"') {
        escaped_length(body, '"')
    } else {
        character_length(body)?
    };
    Some(prefix + length)
}

/// The length of `body` up to the second `quote` that no backslash precedes.
fn escaped_length(body: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in body.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            c if c == quote => return at + c.len_utf8(),
            _ => {}
        }
    }
    body.len()
}

/// The length of a character in quotes; `None` for a lifetime.
fn character_length(body: &str) -> Option<usize> {
    let mut characters = body.char_indices().skip(1);
    let (_, first) = characters.next()?;
    let (end, second) = characters.next()?;
    (first == '\\' || second == '\'').then(|| if first == '\\' { escaped_length(body, '\'') } else { end + 1 })
}

#[test]
fn comments_literals_and_lifetimes_are_told_apart() {
    let text = "fn a<'x>() { /* b */ \"// no \\\" end\"; r#\"q\"w\"#; '\\''; 'c'; b'd' } // e";
    let of = |kind| tokens(text).iter().filter(|t| t.kind == kind).map(|t| t.text).collect::<Vec<_>>();
    assert_eq!(of(TokenKind::Comment), ["/* b */", "// e"]);
    assert_eq!(of(TokenKind::Literal), ["\"// no \\\" end\"", "r#\"q\"w\"#", "'\\''", "'c'", "b'd'"]);
    assert_eq!(of(TokenKind::Word), ["fn", "a", "x"]);
}

#[test]
fn items_for_tests_are_no_code() {
    let text = "use a;\n#[cfg(test)]\n#[path = \"x_tests.rs\"]\nmod tests;\n#[cfg(test)]\nfn b() { c }\nfn d() {}";
    let words: Vec<&str> = code_tokens(text).into_iter().filter(Token::is_word).map(|t| t.text).collect();
    assert_eq!(words, ["use", "a", "fn", "d"]);
}
