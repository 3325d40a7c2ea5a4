//! What can be a key at a provider.

/// Keys of providers have forty characters and more. Of a shorter one than this, the four that are shown would be too many.
const SHORTEST: usize = 16;
/// The longest in use have some two hundred.
const LONGEST: usize = 512;
/// Characters that are shown, to tell a key by.
const SHOWN: usize = 4;

/// A key as somebody typed it, if it can be one: it goes into a header as it is.
///
/// # Errors
/// A sentence that says what is wrong, and nothing of what was typed.
pub fn read(typed: &str) -> Result<&str, String> {
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

/// What is shown of a key that can be one.
#[must_use]
pub fn last_four(key: &str) -> &str {
    key.get(key.len().saturating_sub(SHOWN)..).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_fits_a_header_as_it_is_can_be_a_key() {
        for key in ["sk-ant-api03-abcdefgh_-1234", &"k".repeat(SHORTEST), &"k".repeat(LONGEST)] {
            assert_eq!(read(key), Ok(key));
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
            let said = read(typed).unwrap_err();
            assert!(said.contains(part) && (typed.is_empty() || !said.contains(typed)), "{typed:?}: {said}");
        }
        assert_eq!(last_four("sk-ant-api03-abcdefgh_-1234"), "1234");
    }
}
