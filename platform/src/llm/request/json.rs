//! JSON read strictly: no name twice in an object. Parsers differ in which of two they believe (RFC 8259 4), and
//! what is held must be computed from what the provider will read. And not more of it than memory is meant for.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Values of one body. Each takes some hundred bytes of memory, although it may be written in two; the longest
/// conversations have a few thousand.
const MOST_VALUES: usize = 200_000;

/// Reads `bytes` as one JSON object.
///
/// # Errors
/// The parser's sentence; it quotes names of the text, never values.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let room = Cell::new(MOST_VALUES);
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = Strict { room: &room }.deserialize(&mut reader).map_err(|e| e.to_string())?;
    reader.end().map_err(|e| e.to_string())?;
    match value {
        Value::Object(object) => Ok(object),
        _ => Err("the body is not a JSON object".into()),
    }
}

/// How many more values there may be.
#[derive(Clone, Copy)]
struct Strict<'a> {
    room: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.room.get().checked_sub(1);
        self.room.set(left.ok_or_else(|| D::Error::custom(format_args!("it has more than {MOST_VALUES} values")))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            if object.contains_key(&name) {
                return Err(A::Error::custom(format_args!("the name \"{name}\" stands twice in one object")));
            }
            object.insert(name, map.next_value_seed(self)?);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_stands_twice_is_refused_at_any_depth() {
        assert!(object(br#"{"a":1,"b":{"c":[{"d":1},{"d":2}]}}"#).is_ok());
        assert!(object(br#"{"max_tokens":1,"max_tokens":9}"#).unwrap_err().contains("max_tokens"));
        assert!(object(br#"{"a":[{"ttl":"5m","t\u0074l":"1h"}]}"#).unwrap_err().contains("ttl"));
        assert!(object(b"[1]").is_err());
        assert!(object(b"{} {}").is_err());
    }

    #[test]
    fn a_body_of_very_many_values_is_refused_before_it_fills_the_memory() {
        let zeros = |count: usize| format!("{{\"a\":[{}0]}}", "0,".repeat(count - 1));
        // The object and the array are values too.
        assert!(object(zeros(MOST_VALUES - 2).as_bytes()).is_ok());
        assert!(object(zeros(MOST_VALUES - 1).as_bytes()).unwrap_err().contains("200000 values"));
    }
}
