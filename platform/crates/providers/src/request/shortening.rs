//! Clamping of a request: lowers its output limit, in the field of each wire format.

use super::json::{JsonObject, JsonValue};
use super::parse;
use crate::splice;

/// The shortest useful answer, in tokens: a few sentences, or one tool call. Below it, paying for the input again is
/// not worthwhile. OpenAI's Responses API accepts no limit below 16.
pub const SHORTEST_ANSWER: u64 = 256;

/// The newer and the older name of the output limit of chat completions.
const CHAT_LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// The shortest useful answer to a body of `POST /v1/messages`: the reasoning budget and [`SHORTEST_ANSWER`] on top,
/// because Anthropic refuses a `max_tokens` at or below `budget_tokens`.
#[must_use]
pub fn shortest_messages_answer(bytes: &[u8]) -> Option<u64> {
    let body = parse(bytes).ok()?;
    let budget = body.get("thinking").and_then(|thinking| number(thinking.get("budget_tokens")));
    let asked = number(body.get("max_tokens"))?;
    // With interleaved thinking the budget spans several turns and may exceed `max_tokens`; it does not bound this
    // answer.
    Some(budget.filter(|budget| *budget < asked).unwrap_or(0).saturating_add(SHORTEST_ANSWER))
}

/// A body of `POST /v1/messages` with `max_tokens` set to `tokens`.
#[must_use]
pub fn messages(bytes: &[u8], tokens: u64) -> Option<Vec<u8>> {
    splice::with_number(bytes, "max_tokens", tokens)
}

/// A body of `POST /v1/chat/completions` with every output limit above `tokens` lowered to it. A body without a limit
/// gets one.
#[must_use]
pub fn chat(bytes: &[u8], tokens: u64) -> Option<Vec<u8>> {
    let body = parse(bytes).ok()?;
    let is_longer = |name: &&str| limit_in(&body, name).is_some_and(|limit| limit > tokens);
    let mut longer = CHAT_LIMITS.into_iter().filter(is_longer);
    let first = splice::with_number(bytes, longer.next().unwrap_or(CHAT_LIMITS[0]), tokens)?;
    longer.try_fold(first, |body, name| splice::with_number(&body, name, tokens))
}

/// A body of `POST /v1/responses` with `max_output_tokens` set to `tokens`.
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
    fn the_shortest_answer_has_room_for_the_reasoning_budget() {
        let least =
            |more: &str| shortest_messages_answer(format!(r#"{{"max_tokens":9000{more}}}"#).as_bytes()).unwrap();
        assert_eq!(least(""), SHORTEST_ANSWER);
        assert_eq!(least(r#","thinking":{"type":"adaptive"}"#), SHORTEST_ANSWER);
        assert_eq!(least(r#","thinking":{"type":"enabled","budget_tokens":4000}"#), 4000 + SHORTEST_ANSWER);
        assert_eq!(least(r#","thinking":{"type":"enabled","budget_tokens":30000}"#), SHORTEST_ANSWER, "between tools");
    }

    #[test]
    fn every_output_limit_is_lowered_and_none_is_raised() {
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
