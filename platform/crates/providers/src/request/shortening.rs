//! Asking for a shorter answer than a call does, in the fields that each shape has for that.

use super::json::{JsonObject, JsonValue};
use super::parse;
use crate::splice;

/// The shortest answer that is worth paying the input for again, in tokens: a few sentences, or one call of a tool.
/// OpenAI's Responses API takes no less than 16.
pub const SHORTEST_ANSWER: u64 = 256;

/// The newer name and the older one of the same limit.
const OF_CHAT: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// The shortest answer to a body of `POST /v1/messages`. A thought with a limit of its own has room in it, because
/// Anthropic refuses a `max_tokens` that is not above that; where the body's is not, the limit is for thoughts between
/// tools and does not count here.
#[must_use]
pub fn shortest_messages_answer(bytes: &[u8]) -> Option<u64> {
    let body = parse(bytes).ok()?;
    let thought = body.get("thinking").and_then(|thinking| number(thinking.get("budget_tokens")));
    let asked = number(body.get("max_tokens"))?;
    Some(thought.filter(|thought| *thought < asked).unwrap_or(0).saturating_add(SHORTEST_ANSWER))
}

/// A body of `POST /v1/messages` that asks for at most `tokens`.
#[must_use]
pub fn messages(bytes: &[u8], tokens: u64) -> Option<Vec<u8>> {
    splice::with_number(bytes, "max_tokens", tokens)
}

/// The same of `POST /v1/chat/completions`, where either name may stand, or both, or none.
#[must_use]
pub fn chat(bytes: &[u8], tokens: u64) -> Option<Vec<u8>> {
    let body = parse(bytes).ok()?;
    let is_longer = |name: &&str| limit_in(&body, name).is_some_and(|limit| limit > tokens);
    let mut longer = OF_CHAT.into_iter().filter(is_longer);
    let first = splice::with_number(bytes, longer.next().unwrap_or(OF_CHAT[0]), tokens)?;
    longer.try_fold(first, |body, name| splice::with_number(&body, name, tokens))
}

/// The same of `POST /v1/responses`.
#[must_use]
pub fn responses(bytes: &[u8], tokens: u64) -> Option<Vec<u8>> {
    splice::with_number(bytes, "max_output_tokens", tokens)
}

fn limit_in(body: &JsonObject<'_>, name: &str) -> Option<u64> {
    number(body.get(name))
}

fn number(value: Option<&JsonValue<'_>>) -> Option<u64> {
    match value {
        Some(JsonValue::Count(number)) => Some(*number),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thought_keeps_its_room() {
        let least =
            |more: &str| shortest_messages_answer(format!(r#"{{"max_tokens":9000{more}}}"#).as_bytes()).unwrap();
        assert_eq!(least(""), SHORTEST_ANSWER);
        assert_eq!(least(r#","thinking":{"type":"adaptive"}"#), SHORTEST_ANSWER);
        assert_eq!(least(r#","thinking":{"type":"enabled","budget_tokens":4000}"#), 4000 + SHORTEST_ANSWER);
        assert_eq!(least(r#","thinking":{"type":"enabled","budget_tokens":30000}"#), SHORTEST_ANSWER, "between tools");
    }

    #[test]
    fn every_name_of_the_limit_is_lowered_and_none_is_raised() {
        for (before, after) in [
            (r#"{"n":1}"#, r#"{"n":1,"max_completion_tokens":700}"#),
            (r#"{"max_tokens":9000,"n":1}"#, r#"{"max_tokens":700,"n":1}"#),
            (r#"{"max_completion_tokens":null,"n":1}"#, r#"{"max_completion_tokens":700,"n":1}"#),
            (r#"{"max_tokens":9000,"max_completion_tokens":800}"#, r#"{"max_tokens":700,"max_completion_tokens":700}"#),
            (r#"{"max_tokens":9000,"max_completion_tokens":300}"#, r#"{"max_tokens":700,"max_completion_tokens":300}"#),
        ] {
            assert_eq!(chat(before.as_bytes(), 700).unwrap(), after.as_bytes());
        }
    }
}
