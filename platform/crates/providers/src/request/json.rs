//! JSON read strictly: no name twice in an object. Parsers differ in which of two they believe (RFC 8259 4), and
//! what is held must be computed from what the provider will read. And not more of it than memory is meant for.
//!
//! Read once and in place: most of a body is text that nobody here looks at, so text is not copied.

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// Values of one body. Each takes some dozen bytes of memory, although it may be written in two; the longest
/// conversations have a few thousand.
const MOST_VALUES: usize = 200_000;
/// Text with escapes in it has to be copied to be read. Longer text is none of the words that decide something here.
const LONGEST_WORD: usize = 256;
/// Objects with more members are sorted to find a name that stands twice, instead of compared member by member.
const FEW_MEMBERS: usize = 16;

/// A value of a body.
#[derive(Debug)]
pub enum JsonValue<'a> {
    Null,
    Bool(bool),
    /// A whole number that is not negative.
    Count(u64),
    /// Any other number.
    Number,
    Text(Cow<'a, str>),
    /// Text that was not kept, of so many bytes.
    LongText(usize),
    Array(Vec<JsonValue<'a>>),
    JsonObject(JsonObject<'a>),
}

/// The members of an object, in their order.
#[derive(Debug)]
pub struct JsonObject<'a>(Vec<(Cow<'a, str>, JsonValue<'a>)>);

impl<'a> JsonValue<'a> {
    /// The member of that name, where this is an object that has it.
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

    /// Whether this is that word.
    pub fn says(&self, word: &str) -> bool {
        self.as_str() == Some(word)
    }
}

impl<'a> JsonObject<'a> {
    pub fn get(&self, name: &str) -> Option<&JsonValue<'a>> {
        self.0.iter().find(|(its, _)| its == name).map(|(_, value)| value)
    }

    /// The member, unless it is `null`, which says as much as leaving it out.
    pub fn set(&self, name: &str) -> Option<&JsonValue<'a>> {
        self.get(name).filter(|value| !value.is_null())
    }

    pub fn has(&self, name: &str) -> bool {
        self.set(name).is_some()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &**name)
    }

    pub fn values(&self) -> impl Iterator<Item = &JsonValue<'a>> {
        self.0.iter().map(|(_, value)| value)
    }
}

/// Reads `bytes` as one JSON object.
///
/// # Errors
/// The parser's sentence; it quotes names of the text, never values.
pub fn object(bytes: &[u8]) -> Result<JsonObject<'_>, String> {
    let room = Cell::new(MOST_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = StrictReader { room: &room }.deserialize(&mut reader).map_err(|e| e.to_string())?;
    reader.end().map_err(|e| e.to_string())?;
    match value {
        JsonValue::JsonObject(object) => Ok(object),
        _ => Err("the body is not a JSON object".into()),
    }
}

/// How many more values there may be.
#[derive(Clone, Copy)]
struct StrictReader<'r> {
    room: &'r Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for StrictReader<'_> {
    type Value = JsonValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<JsonValue<'de>, D::Error> {
        let left = self.room.get().checked_sub(1);
        self.room.set(left.ok_or_else(|| D::Error::custom(format_args!("it has more than {MOST_VALUES} values")))?);
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

    fn visit_str<E: Error>(self, value: &str) -> Result<JsonValue<'de>, E> {
        let is_long = value.len() > LONGEST_WORD;
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
            let stands_twice = members.len() < FEW_MEMBERS && members.iter().any(|(before, _)| *before == name);
            if stands_twice {
                return Err(twice(&name));
            }
            members.push((name, map.next_value_seed(self)?));
        }
        if members.len() > FEW_MEMBERS {
            let mut names: Vec<&str> = members.iter().map(|(name, _)| &**name).collect();
            names.sort_unstable();
            if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
                return Err(twice(pair[0]));
            }
        }
        Ok(JsonValue::JsonObject(JsonObject(members)))
    }
}

fn twice<E: Error>(name: &str) -> E {
    E::custom(format_args!("the name \"{name}\" stands twice in one object"))
}

/// A name, in place unless it has escapes.
#[derive(serde::Deserialize)]
struct MemberName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth_and_in_an_object_of_any_size() {
        assert!(object(br#"{"a":1,"b":{"c":[{"d":1},{"d":2}]}}"#).is_ok());
        assert!(object(br#"{"max_tokens":1,"max_tokens":9}"#).unwrap_err().contains("max_tokens"));
        assert!(object(br#"{"a":[{"ttl":"5m","t\u0074l":"1h"}]}"#).unwrap_err().contains("ttl"));
        assert!(object(b"[1]").is_err());
        assert!(object(b"{} {}").is_err());
        for size in [FEW_MEMBERS - 1, FEW_MEMBERS, FEW_MEMBERS + 1, 1000] {
            let members: Vec<String> = (0..size).map(|number| format!("\"m{number}\":{number}")).collect();
            assert!(object(format!("{{{}}}", members.join(",")).as_bytes()).is_ok(), "{size}");
            let again = format!("{{{},\"m0\":1}}", members.join(","));
            assert!(object(again.as_bytes()).unwrap_err().contains("m0"), "{size}");
        }
    }

    #[test]
    fn a_body_of_very_many_values_is_refused_before_it_fills_the_memory() {
        let zeros = |count: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(count - 1));
        // The object and the array are values too.
        assert!(object(zeros(MOST_VALUES - 2).as_bytes()).is_ok());
        assert!(object(zeros(MOST_VALUES - 1).as_bytes()).unwrap_err().contains("200000 values"));
    }

    #[test]
    fn words_are_read_whether_they_are_escaped_or_not_and_long_text_is_not_kept() {
        let body = format!(r#"{{"\u0061":"5\u006d","b":"{}\n","c":1.0,"d":-1,"e":7}}"#, "x".repeat(LONGEST_WORD));
        let object = object(body.as_bytes()).unwrap();
        assert!(object.get("a").unwrap().says("5m"));
        assert!(matches!(object.get("b"), Some(JsonValue::LongText(257))));
        assert!(matches!(
            (object.get("c"), object.get("d"), object.get("e")),
            (Some(JsonValue::Number), Some(JsonValue::Number), Some(JsonValue::Count(7)))
        ));
    }
}
