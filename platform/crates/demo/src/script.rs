//! Answer scripts: parses a request into the plan of its answer (text, length, pace and injected faults).

use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// The most characters of the question that the answer echoes.
const MAX_ECHOED_CHARACTERS: usize = 160;
/// The most tokens of an answer; more than any model generates.
const MAX_TOKENS: u64 = 1_000_000;

/// A fault to inject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InjectedFault {
    /// `status-529`: this status instead of an answer.
    Status(StatusCode),
    /// `break`: the connection is cut in the middle of the stream.
    Break,
    /// `overloaded`: an error event ends the stream in the middle.
    Overloaded,
    /// `malformed`: invalid JSON.
    Malformed,
}

/// The plan of one answer.
///
/// Directions are headers (`x-demo-tokens: 500`) or words in the last message (`x-demo-tokens=500`), which pass through
/// any SDK: `x-demo-pace-ms` between words, `x-demo-first-byte-ms` before the answer, `x-demo-tokens` for its length,
/// `x-demo-fault` for a fault (`status-NNN`, `break`, `overloaded`, `malformed`).
#[derive(Clone, Debug)]
pub struct AnswerScript {
    pub model: String,
    /// The id of the answer, equal for equal questions.
    pub id: String,
    pub stream: bool,
    pub include_usage: bool,
    pub answers: u64,
    /// The answer in words, one output token each.
    pub words: Vec<String>,
    /// The caller's limit on output tokens cut the answer off.
    pub is_cut: bool,
    pub input_tokens: u64,
    pub pace: Duration,
    pub first_byte: Duration,
    pub fault: Option<InjectedFault>,
}

impl AnswerScript {
    /// Parses a request; `None` if its body is invalid. `pace` is the default.
    pub fn parse(headers: &HeaderMap, body: &[u8], pace: Duration) -> Option<Self> {
        let request: Value = serde_json::from_slice(body).ok()?;
        let model = request.get("model")?.as_str()?.to_owned();
        let question = last_text(&request);
        let direction = |name: &str| direction(headers, &question, name);
        let number = |name: &str| direction(name).and_then(|value| value.parse::<u64>().ok());
        // The new and the old name of Chat Completions (the old one is also Anthropic's), then the name of Responses.
        let limit = ["max_completion_tokens", "max_tokens", "max_output_tokens"]
            .iter()
            .find_map(|field| request.get(field)?.as_u64());
        let mut words = words(&question, number("tokens").map(|tokens| tokens.min(MAX_TOKENS)));
        let limit = usize::try_from(limit.unwrap_or(MAX_TOKENS)).unwrap_or(usize::MAX);
        let is_cut = words.len() > limit;
        words.truncate(limit);
        Some(Self {
            id: hex::encode(&Sha256::digest([model.as_bytes(), question.as_bytes()].concat())[..12]),
            model,
            stream: request.get("stream") == Some(&Value::Bool(true)),
            include_usage: request.pointer("/stream_options/include_usage") == Some(&Value::Bool(true)),
            // OpenAI's own bounds on `n`.
            answers: request.get("n").and_then(Value::as_u64).unwrap_or(1).clamp(1, 128),
            words,
            is_cut,
            input_tokens: input_tokens(body),
            pace: number("pace-ms").map_or(pace, Duration::from_millis),
            first_byte: Duration::from_millis(number("first-byte-ms").unwrap_or(0)),
            fault: direction("fault").and_then(|fault| read_fault(&fault)),
        })
    }

    pub fn text(&self) -> String {
        self.words.concat()
    }

    pub fn output_tokens(&self) -> u64 {
        self.words_count().saturating_mul(self.answers)
    }

    fn words_count(&self) -> u64 {
        u64::try_from(self.words.len()).unwrap_or(u64::MAX)
    }
}

/// A quarter of the bytes of the prompt, similar to the count of real models for English. Streaming options are
/// excluded, so that the same question always costs the same.
pub fn input_tokens(body: &[u8]) -> u64 {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let parts = ["messages", "system", "tools", "input", "instructions"]
        .map(|field| request.get(field).map_or(0, |part| part.to_string().len()));
    u64::try_from(parts.iter().sum::<usize>() / 4 + 1).unwrap_or(u64::MAX)
}

/// The text of the user's last message.
fn last_text(request: &Value) -> String {
    let messages = request.get("messages").or_else(|| request.get("input"));
    // The Responses API also takes a plain text as its whole input.
    if let Some(Value::String(text)) = messages {
        return text.clone();
    }
    let last =
        messages.and_then(Value::as_array).and_then(|all| all.iter().rev().find(|message| message["role"] == "user"));
    match last.map(|message| &message["content"]) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(blocks)) => {
            blocks.iter().filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join(" ")
        }
        _ => String::new(),
    }
}

fn direction(headers: &HeaderMap, question: &str, name: &str) -> Option<String> {
    let name = format!("x-demo-{name}");
    let from_header = headers.get(&name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    from_header.or_else(|| {
        question
            .split_ascii_whitespace()
            .find_map(|word| word.strip_prefix(&name)?.strip_prefix('=').map(str::to_owned))
    })
}

fn read_fault(name: &str) -> Option<InjectedFault> {
    match name {
        "break" => Some(InjectedFault::Break),
        "overloaded" => Some(InjectedFault::Overloaded),
        "malformed" => Some(InjectedFault::Malformed),
        _ => name.strip_prefix("status-")?.parse().ok().map(InjectedFault::Status),
    }
}

fn words(question: &str, tokens: Option<u64>) -> Vec<String> {
    let asked: String = question
        .split_ascii_whitespace()
        .filter(|word| !word.starts_with("x-demo-"))
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(MAX_ECHOED_CHARACTERS)
        .collect();
    let echo =
        if asked.is_empty() { "You asked nothing.".into() } else { format!("You wrote: \u{201c}{asked}\u{201d}.") };
    let text = format!(
        "This is Berth's built-in demo model. {echo} No provider was asked; the tokens of this answer are counted and \
         paid from your allowance as a real model's would be. Once the operator sets a provider key, a real model \
         answers in this place."
    );
    let words = text.split_inclusive(' ').map(str::to_owned);
    match tokens {
        None => words.collect(),
        Some(tokens) => {
            let all: Vec<String> = words.collect();
            // The text is repeated until the length is reached.
            all.iter().cycle().take(usize::try_from(tokens).unwrap_or(0)).cloned().collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> AnswerScript {
        AnswerScript::parse(&HeaderMap::new(), body.as_bytes(), Duration::ZERO).unwrap()
    }

    #[test]
    fn directions_come_in_the_last_message_and_are_not_echoed() {
        let script = read(
            r#"{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi x-demo-tokens=12 x-demo-pace-ms=5 x-demo-fault=status-529"}]}"#,
        );
        assert_eq!((script.words.len(), script.is_cut, script.pace), (9, true, Duration::from_millis(5)));
        assert_eq!(script.fault.map(|fault| format!("{fault:?}")), Some("Status(529)".into()));
        let plain = read(
            r#"{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"what is x-demo-a=1 this?"}]}]}"#,
        );
        assert!(plain.text().starts_with("This is Berth's built-in demo model. You wrote: “what is this?”."));
    }
}
