//! A strict JSON parser: it refuses duplicate names in an object, and bodies with too many values.
//!
//! Parser differential: parsers disagree which of two duplicates they use (RFC 8259 section 4). The hold must be
//! computed from the value that the provider will use, so an ambiguous body is refused. The parser borrows text from
//! the body instead of copying it, because most of a body is text that is irrelevant here.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The most values in one body. A value takes a few dozen bytes of memory but as few as two bytes of JSON, so the
/// limit on the size of a body does not bound the memory of its values. The longest conversations have a few thousand.
const MAX_VALUES: usize = 200_000;
/// The longest text with escapes that is kept, in bytes. Such text must be copied to be unescaped, and all field names
/// and keywords of interest are shorter.
const MAX_ESCAPED_TEXT: usize = 256;
/// Objects up to this size are searched for duplicates by comparing each pair of names, larger ones by sorting.
const SMALL_OBJECT: usize = 16;

/// A value of a request body.
#[derive(Debug)]
pub enum JsonValue<'a> {
    Null,
    Bool(bool),
    /// A non-negative integer.
    Count(u64),
    /// Any other number.
    Number,
    Text(Cow<'a, str>),
    /// Text that was not kept, with its length in bytes.
    LongText(usize),
    Array(Vec<JsonValue<'a>>),
    JsonObject(JsonObject<'a>),
}

/// The members of an object, in the order of the body.
#[derive(Debug)]
pub struct JsonObject<'a>(Vec<(Cow<'a, str>, JsonValue<'a>)>);

impl<'a> JsonValue<'a> {
    /// The member of an object by its name. `None` also for a value of another type.
    pub fn get(&self, name: &str) -> Option<&Self> {
        match self {
            Self::JsonObject(object) => object.get(name),
            _ => None,
        }
    }

    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Self]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }

    pub fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::LongText(_))
    }

    /// Whether the value is the text `expected`.
    pub fn is_str(&self, expected: &str) -> bool {
        self.as_str() == Some(expected)
    }
}

impl<'a> JsonObject<'a> {
    pub fn get(&self, name: &str) -> Option<&JsonValue<'a>> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value)
    }

    /// The member, unless it is `null`: providers treat `null` like a missing member.
    pub fn non_null(&self, name: &str) -> Option<&JsonValue<'a>> {
        self.get(name).filter(|value| !value.is_null())
    }

    pub fn has(&self, name: &str) -> bool {
        self.non_null(name).is_some()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    pub fn values(&self) -> impl Iterator<Item = &JsonValue<'a>> {
        self.0.iter().map(|(_, value)| value)
    }
}

/// Parses `bytes` as one JSON object.
///
/// # Errors
/// The parser's message. It may quote names from the body, never values.
pub fn object(bytes: &[u8]) -> Result<JsonObject<'_>, String> {
    let remaining = Cell::new(MAX_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = StrictReader { remaining: &remaining }.deserialize(&mut reader).map_err(|e| e.to_string())?;
    // Trailing data is an error too: parsers disagree whether to ignore it.
    reader.end().map_err(|e| e.to_string())?;
    match value {
        JsonValue::JsonObject(object) => Ok(object),
        _ => Err("the body is not a JSON object".into()),
    }
}

/// A serde visitor with a budget of values that all levels of nesting share.
#[derive(Clone, Copy)]
struct StrictReader<'r> {
    remaining: &'r Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for StrictReader<'_> {
    type Value = JsonValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonValue<'de>, D::Error> {
        // Depth needs no budget: serde_json stops at 128 levels.
        let left = self.remaining.get().checked_sub(1);
        self.remaining.set(left.ok_or_else(|| D::Error::custom(format_args!("it has more than {MAX_VALUES} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for StrictReader<'_> {
    type Value = JsonValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Bool(value))
    }

    // Called for negative numbers only.
    fn visit_i64<E: Error>(self, _: i64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Number)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Count(value))
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Number)
    }

    fn visit_borrowed_str<E: Error>(self, value: &'de str) -> Result<JsonValue<'de>, E> {
        Ok(JsonValue::Text(Cow::Borrowed(value)))
    }

    // Called for text with escapes only, from serde_json's scratch buffer.
    fn visit_str<E: Error>(self, value: &str) -> Result<JsonValue<'de>, E> {
        let is_long = value.len() > MAX_ESCAPED_TEXT;
        Ok(if is_long { JsonValue::LongText(value.len()) } else { JsonValue::Text(Cow::Owned(value.to_owned())) })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<JsonValue<'de>, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(JsonValue::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<JsonValue<'de>, A::Error> {
        let mut members: Vec<(Cow<'de, str>, JsonValue<'de>)> = Vec::new();
        while let Some(MemberName(name)) = map.next_key()? {
            let is_duplicate = members.len() < SMALL_OBJECT && members.iter().any(|(before, _)| *before == name);
            if is_duplicate {
                return Err(duplicate(&name));
            }
            members.push((name, map.next_value_seed(self)?));
        }
        // Comparing each pair would be quadratic: 20 billion comparisons for the largest accepted object.
        if members.len() > SMALL_OBJECT {
            let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
            names.sort_unstable();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(duplicate(pair[0]));
            }
        }
        Ok(JsonValue::JsonObject(JsonObject(members)))
    }
}

fn duplicate<E: Error>(name: &str) -> E {
    E::custom(format_args!("the name \"{name}\" stands twice in one object"))
}

/// The name of a member, borrowed from the body unless it contains escapes.
#[derive(serde::Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duplicate_name_is_refused_at_any_depth_and_in_an_object_of_any_size() {
        assert!(object(br#"{"a":1,"b":{"c":[{"d":1},{"d":2}]}}"#).is_ok());
        assert!(object(br#"{"max_tokens":1,"max_tokens":9}"#).unwrap_err().contains("max_tokens"));
        assert!(object(br#"{"a":[{"ttl":"5m","t\u0074l":"1h"}]}"#).unwrap_err().contains("ttl"));
        assert!(object(b"[1]").is_err());
        assert!(object(b"{} {}").is_err());
        for size in [SMALL_OBJECT - 1, SMALL_OBJECT, SMALL_OBJECT + 1, 1000] {
            let members: Vec<String> = (0..size).map(|number| format!("\"m{number}\":{number}")).collect();
            assert!(object(format!("{{{}}}", members.join(",")).as_bytes()).is_ok(), "{size}");
            let again = format!("{{{},\"m0\":1}}", members.join(","));
            assert!(object(again.as_bytes()).unwrap_err().contains("m0"), "{size}");
        }
    }

    #[test]
    fn a_body_of_too_many_values_is_refused_before_it_fills_the_memory() {
        let zeros = |count: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(count - 1));
        // The object and the array count as values.
        assert!(object(zeros(MAX_VALUES - 2).as_bytes()).is_ok());
        assert!(object(zeros(MAX_VALUES - 1).as_bytes()).unwrap_err().contains("200000 values"));
    }

    #[test]
    fn escaped_text_is_read_and_long_escaped_text_is_not_kept() {
        let body = format!(r#"{{"\u0061":"5\u006d","b":"{}\n","c":1.0,"d":-1,"e":7}}"#, "x".repeat(MAX_ESCAPED_TEXT));
        let object = object(body.as_bytes()).unwrap();
        assert!(object.get("a").unwrap().is_str("5m"));
        assert!(matches!(object.get("b"), Some(JsonValue::LongText(257))));
        assert!(matches!(
            (object.get("c"), object.get("d"), object.get("e")),
            (Some(JsonValue::Number), Some(JsonValue::Number), Some(JsonValue::Count(7)))
        ));
    }
}
