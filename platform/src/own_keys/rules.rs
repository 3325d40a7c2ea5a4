//! Validation of API keys. Pure.

/// Shortest accepted key. Providers issue at least forty characters; of a much shorter key, the four shown characters
/// would reveal too much.
const SHORTEST: usize = 16;
/// Longest accepted key. The longest keys in use have about two hundred characters.
const LONGEST: usize = 512;
/// Number of last characters that are shown, by which an owner recognizes a key.
const SHOWN: usize = 4;

/// Checks a key as typed. It is sent unchanged in a header, so only visible ASCII is accepted.
///
/// # Errors
/// A sentence for the owner. It never repeats the key, which may be valid elsewhere: errors are shown and logged.
pub fn parse_key(typed: &str) -> Result<&str, String> {
    if typed.is_empty() {
        return Err("Paste the key here.".into());
    }
    if typed.chars().any(char::is_whitespace) {
        return Err("There is a space or a line break in it. Paste the key alone.".into());
    }
    if !typed.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("A key has plain letters, digits and signs only. Copy it from the provider's page again.".into());
    }
    if typed.len() < SHORTEST {
        return Err(format!("That is too short for a key: the shortest has {SHORTEST} characters. Paste all of it."));
    }
    if typed.len() > LONGEST {
        return Err(format!("That is too long for a key: the longest has {LONGEST} characters. Paste the key alone."));
    }
    Ok(typed)
}

/// The last four characters of a key that [`parse_key`] accepted.
#[must_use]
pub fn last_four(key: &str) -> &str {
    key.get(key.len().saturating_sub(SHOWN)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_accepted_only_if_it_fits_a_header_unchanged() {
        for key in ["sk-ant-api03-abcdefgh_-1234", &"k".repeat(SHORTEST), &"k".repeat(LONGEST)] {
            assert_eq!(parse_key(key), Ok(key));
        }
        for (typed, part) in [
            ("", "Paste the key"),
            ("sk-ant-api03-abcdefgh\n", "line break"),
            ("sk-ant api03-abcdefgh", "space"),
            ("\u{a0}sk-ant-api03-abcdefgh", "space"),
            ("sk-ant-api03-\u{e4}bcdefgh", "plain letters"),
            ("sk-ant-api03-\u{0}bcdefgh", "plain letters"),
            ("sk-ant-api03-\u{7f}bcdefgh", "plain letters"),
            ("fifteen-letters", "too short"),
            (&"k".repeat(LONGEST + 1), "too long"),
        ] {
            let message = parse_key(typed).unwrap_err();
            assert!(message.contains(part) && (typed.is_empty() || !message.contains(typed)), "{typed:?}: {message}");
        }
        assert_eq!(last_four("sk-ant-api03-abcdefgh_-1234"), "1234");
    }
}
