//! JSON splicing: edits single members of an object in place. All other bytes stay as the client wrote them: order,
//! spacing, number formats, unknown members.

use std::borrow::Cow;
use std::ops::Range;

/// The position of a member: the start of its name, and the range of its value.
struct MemberSpan<'a> {
    name: Cow<'a, str>,
    start: usize,
    value: Range<usize>,
}

/// The positions of an object's members, and of its closing brace.
struct ObjectSpan<'a> {
    members: Vec<MemberSpan<'a>>,
    end: usize,
}

impl<'a> ObjectSpan<'a> {
    fn find(&self, name: &str) -> Option<(usize, &MemberSpan<'a>)> {
        self.members.iter().enumerate().find(|(_, member)| member.name == name)
    }
}

/// `body` with `stream_options.include_usage` set to `true`. `None` when `body` is not a JSON object.
#[must_use]
pub fn with_include_usage(body: &[u8]) -> Option<Vec<u8>> {
    let object = object(body)?;
    let Some((_, options)) = object.find("stream_options") else {
        let comma = if object.members.is_empty() { "" } else { "," };
        let member = format!(r#"{comma}"stream_options":{{"include_usage":true}}"#);
        return Some(replaced(body, object.end..object.end, member.as_bytes()));
    };
    let value = &body[options.value.clone()];
    if value == b"null" {
        return Some(replaced(body, options.value.clone(), br#"{"include_usage":true}"#));
    }
    let inner = self::object(value)?;
    // Ranges of `inner` are relative to the value of `stream_options`.
    let at = options.value.start;
    if let Some((_, include)) = inner.find("include_usage") {
        return Some(replaced(body, at + include.value.start..at + include.value.end, b"true"));
    }
    let comma = if inner.members.is_empty() { "" } else { "," };
    Some(replaced(body, at + 1..at + 1, format!(r#""include_usage":true{comma}"#).as_bytes()))
}

/// `body` with `member` appended. `body` must be a JSON object with at least one member, and without a member of that
/// name.
#[must_use]
pub fn with_last_member(body: &[u8], member: &str) -> Vec<u8> {
    // Only white space may follow the object, so the last brace closes it.
    let end = body.iter().rposition(|byte| *byte == b'}').unwrap_or(body.len());
    [&body[..end], b",", member.as_bytes(), &body[end..]].concat()
}

/// `body` with its member `name` set to `value`, or with the member appended if there is none. `None` when `body` is
/// not a JSON object.
#[must_use]
pub fn with_number(body: &[u8], name: &str, value: u64) -> Option<Vec<u8>> {
    let object = object(body)?;
    if let Some((_, member)) = object.find(name) {
        return Some(replaced(body, member.value.clone(), value.to_string().as_bytes()));
    }
    let comma = if object.members.is_empty() { "" } else { "," };
    Some(replaced(body, object.end..object.end, format!(r#"{comma}"{name}":{value}"#).as_bytes()))
}

/// An object with those members of `body` that are in `names`, as the client wrote them. `None` when `body` is not a
/// JSON object.
#[must_use]
pub fn with_only(body: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let object = object(body)?;
    let kept = object.members.iter().filter(|member| names.contains(&&*member.name));
    let kept: Vec<&[u8]> = kept.map(|member| &body[member.start..member.value.end]).collect();
    Some([b"{", kept.join(&b","[..]).as_slice(), b"}"].concat())
}

/// The edit that hides the usage figures in a stream chunk from a client that did not request them.
#[derive(Debug, PartialEq, Eq)]
pub enum ChunkEdit {
    /// The chunk contains no usage, or usage that is part of an answer.
    Keep,
    /// The chunk without its `"usage":null`.
    Replace(Vec<u8>),
    /// The chunk consists of the usage only; without `include_usage` the provider would not send it.
    Drop,
}

/// Decides the edit of one chunk, given its JSON.
#[must_use]
pub fn without_usage(json: &[u8]) -> ChunkEdit {
    let Some(object) = object(json) else { return ChunkEdit::Keep };
    let Some((index, usage)) = object.find("usage") else { return ChunkEdit::Keep };
    if &json[usage.value.clone()] != b"null" {
        // Usage next to choices is part of an answer and would have been sent anyway.
        let no_choices = object.find("choices").is_some_and(|(_, choices)| {
            json[choices.value.clone()].iter().filter(|b| !b.is_ascii_whitespace()).eq(b"[]")
        });
        return if no_choices { ChunkEdit::Drop } else { ChunkEdit::Keep };
    }
    // The cut includes the comma before the member or, for the first member, everything up to the next one.
    let cut = match (index.checked_sub(1), object.members.get(index + 1)) {
        (Some(before), _) => object.members[before].value.end..usage.value.end,
        (None, Some(next)) => usage.start..next.start,
        (None, None) => usage.start..usage.value.end,
    };
    ChunkEdit::Replace(replaced(json, cut, b""))
}

fn replaced(bytes: &[u8], range: Range<usize>, by: &[u8]) -> Vec<u8> {
    [&bytes[..range.start], by, &bytes[range.end..]].concat()
}

/// Finds the members of the object in `json`. `None` when `json` is not an object. The scan validates only as much
/// syntax as it needs; for malformed text it returns `None` or wrong ranges, but never panics.
fn object(json: &[u8]) -> Option<ObjectSpan<'_>> {
    let mut at = skip_space(json, 0);
    let mut members = Vec::new();
    if json.get(at) != Some(&b'{') {
        return None;
    }
    at = skip_space(json, at + 1);
    while json.get(at) != Some(&b'}') {
        let start = at;
        at = skip_string(json, at)?;
        let name = serde_json::from_slice::<MemberName<'_>>(&json[start..at]).ok()?.0;
        at = skip_space(json, at);
        if json.get(at) != Some(&b':') {
            return None;
        }
        let value = skip_space(json, at + 1);
        let end = skip_value(json, value)?;
        members.push(MemberSpan { name, start, value: value..end });
        at = skip_space(json, end);
        match json.get(at)? {
            b',' => at = skip_space(json, at + 1),
            b'}' => {}
            _ => return None,
        }
    }
    Some(ObjectSpan { members, end: at })
}

#[derive(serde::Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

fn skip_space(json: &[u8], from: usize) -> usize {
    json.get(from..).map_or(from, |rest| from + rest.iter().take_while(|b| b.is_ascii_whitespace()).count())
}

fn skip_string(json: &[u8], from: usize) -> Option<usize> {
    if json.get(from) != Some(&b'"') {
        return None;
    }
    let mut at = from + 1;
    loop {
        match json.get(at)? {
            b'"' => return Some(at + 1),
            // An escape: its second byte may be a quote, which does not end the string.
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}

fn skip_value(json: &[u8], from: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut at = from;
    loop {
        match json.get(at)? {
            // Strings are skipped whole: brackets in them do not count.
            b'"' => at = skip_string(json, at)?,
            b'{' | b'[' => {
                depth += 1;
                at += 1;
            }
            b'}' | b']' => {
                // At depth 0 the bracket closes the object around a number or keyword.
                if depth == 0 {
                    return (at > from).then_some(at);
                }
                depth -= 1;
                at += 1;
            }
            b',' if depth == 0 => return (at > from).then_some(at),
            byte if depth == 0 && byte.is_ascii_whitespace() => return Some(at),
            _ => at += 1,
        }
        let closed = matches!(json.get(at - 1), Some(b'"' | b'}' | b']'));
        if depth == 0 && closed {
            return Some(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn asking_for_usage_changes_nothing_else() {
        let ask = |body: &str| String::from_utf8(with_include_usage(body.as_bytes()).unwrap()).unwrap();
        for (before, after) in [
            (r#"{"a":1.50}"#, r#"{"a":1.50,"stream_options":{"include_usage":true}}"#),
            ("{ \"a\" : \"}\\\"\" }\n", "{ \"a\" : \"}\\\"\" ,\"stream_options\":{\"include_usage\":true}}\n"),
            ("{}", r#"{"stream_options":{"include_usage":true}}"#),
            (r#"{"stream_options":null,"b":[{}]}"#, r#"{"stream_options":{"include_usage":true},"b":[{}]}"#),
            (r#"{"stream_options":{}}"#, r#"{"stream_options":{"include_usage":true}}"#),
            (
                r#"{"stream\u005foptions": {"include_obfuscation":false}}"#,
                r#"{"stream\u005foptions": {"include_usage":true,"include_obfuscation":false}}"#,
            ),
            (r#"{"stream_options":{"include_usage": false }}"#, r#"{"stream_options":{"include_usage": true }}"#),
        ] {
            assert_eq!(ask(before), after);
        }
        assert_eq!(with_include_usage(b"[]"), None);
    }

    #[test]
    fn a_number_is_changed_in_place_or_appended() {
        for (before, after) in [
            (r#"{"a":[1.50],"n":64000,"b":{"n":1}}"#, r#"{"a":[1.50],"n":7,"b":{"n":1}}"#),
            ("{ \"\\u006e\" :\t9 , \"b\" : null }\n", "{ \"\\u006e\" :\t7 , \"b\" : null }\n"),
            (r#"{"n":null}"#, r#"{"n":7}"#),
            ("{\"a\" : \"n\" }\n", "{\"a\" : \"n\" ,\"n\":7}\n"),
            ("{}", r#"{"n":7}"#),
        ] {
            assert_eq!(with_number(before.as_bytes(), "n", 7).unwrap(), after.as_bytes());
        }
        assert_eq!(with_number(b"[1]", "n", 7), None);
    }

    #[test]
    fn hiding_usage_removes_nothing_else() {
        for (before, after) in [
            (r#"{"choices":[{}],"usage":null}"#, ChunkEdit::Replace(br#"{"choices":[{}]}"#.to_vec())),
            (r#"{"a":1, "usage":null, "b":"x"}"#, ChunkEdit::Replace(br#"{"a":1, "b":"x"}"#.to_vec())),
            (r#"{"usage":null,"b":1}"#, ChunkEdit::Replace(br#"{"b":1}"#.to_vec())),
            (r#"{"usage" : null}"#, ChunkEdit::Replace(b"{}".to_vec())),
            (r#"{"choices":[ ],"usage":{"total_tokens":3}}"#, ChunkEdit::Drop),
            (r#"{"choices":[{"usage":null}]}"#, ChunkEdit::Keep),
            (r#"{"choices":[{}],"usage":{"total_tokens":3}}"#, ChunkEdit::Keep),
            ("[DONE]", ChunkEdit::Keep),
            (r#"{"usage":null"#, ChunkEdit::Keep),
        ] {
            assert_eq!(without_usage(before.as_bytes()), after, "{before}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in r#"[\{\}\[\]",:\\ a1n]{0,40}"#) {
            let _ = without_usage(text.as_bytes());
            let _ = with_include_usage(text.as_bytes());
            let _ = with_only(text.as_bytes(), &["a"]);
            let _ = with_number(text.as_bytes(), "a", 1);
        }

        #[test]
        fn a_number_changes_nothing_but_itself(names in prop::collection::vec("[a-e\"]{1,2}", 0..6), text in "\\PC{0,20}", number: i32) {
            let mut object = serde_json::Map::new();
            for name in names {
                object.insert(name, serde_json::json!([text, number, {"a": null}]));
            }
            let changed = with_number(serde_json::to_string_pretty(&object).unwrap().as_bytes(), "a", 7).unwrap();
            object.insert("a".into(), 7.into());
            prop_assert_eq!(serde_json::from_slice::<serde_json::Map<_, _>>(&changed).unwrap(), object);
        }

        #[test]
        fn adding_and_hiding_give_back_the_same(name in "[a-z]{1,5}", text in "\\PC{0,20}", number: f64) {
            prop_assume!(name != "usage");
            let before = serde_json::json!({ name: [text, number, {"usage": null}] }).to_string();
            let with = format!("{},\"usage\":null}}", &before[..before.len() - 1]);
            prop_assert_eq!(without_usage(with.as_bytes()), ChunkEdit::Replace(before.into_bytes()));
        }
    }
}
