//! Usage in OpenAI's chat completions: one object at the end, in streams only when asked for.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::{Progress, length};
use crate::quota::Usage;

#[derive(Default)]
pub struct Stream {
    progress: Progress,
}

#[derive(Deserialize)]
struct Chunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<Choice<'a>>,
    usage: Option<Value>,
    service_tier: Option<Value>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice<'a> {
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow)]
    function_call: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<Cow<'a, str>>,
}

impl Function<'_> {
    fn bytes(&self) -> u64 {
        length(self.name.as_deref()) + length(self.arguments.as_deref())
    }
}

impl Stream {
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(super) fn take_unseen(&mut self, bytes: usize) {
        self.progress.answer_bytes += u64::try_from(bytes).unwrap_or(0);
    }

    pub(super) fn take(&mut self, data: &[u8]) {
        if data == b"[DONE]" {
            self.progress.is_over = true;
            self.progress.is_final |= self.progress.usage.is_some();
            return;
        }
        let Ok(chunk) = serde_json::from_slice::<Chunk<'_>>(data) else { return self.take_unseen(data.len()) };
        if chunk.error.is_some_and(|error| !error.is_null()) {
            self.progress.failed = true;
            self.progress.is_over = true;
        }
        for delta in chunk.choices.iter().filter_map(|choice| choice.delta.as_ref()) {
            let calls = delta.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref());
            self.progress.answer_bytes += [&delta.content, &delta.refusal, &delta.reasoning_content]
                .iter()
                .map(|text| length(text.as_deref()))
                .chain(calls.chain(&delta.function_call).map(Function::bytes))
                .sum::<u64>();
        }
        if let Some(usage) = chunk.usage.filter(Value::is_object) {
            self.progress.usage = read_usage(&usage, chunk.service_tier.as_ref());
            self.progress.is_final = chunk.choices.is_empty() && self.progress.usage.is_some();
            self.progress.raw = usage.to_string();
        }
    }
}

#[derive(Deserialize)]
struct Figures {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Default, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cache_write_tokens_details: Option<WriteDetails>,
    audio_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct WriteDetails {
    ttl_12h_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    audio_tokens: Option<u64>,
}

/// `prompt_tokens` includes what was read from and written to the cache, unlike Anthropic's `input_tokens`.
pub(super) fn read_usage(usage: &Value, service_tier: Option<&Value>) -> Option<Usage> {
    let figures = Figures::deserialize(usage).ok()?;
    let prompt = figures.prompt_tokens_details.unwrap_or_default();
    let read = prompt.cached_tokens.unwrap_or(0).min(figures.prompt_tokens);
    let written = prompt.cache_write_tokens.unwrap_or(0).min(figures.prompt_tokens - read);
    let long = prompt.cache_write_tokens_details.and_then(|d| d.ttl_12h_tokens).unwrap_or(0).min(written);
    let sound = prompt.audio_tokens.unwrap_or(0)
        + figures.completion_tokens_details.and_then(|details| details.audio_tokens).unwrap_or(0);
    let dearer_tier = service_tier
        .and_then(Value::as_str)
        .is_some_and(|tier| !["default", "auto", "standard", "flex", "scale"].contains(&tier));
    Some(Usage {
        input_tokens: figures.prompt_tokens - read - written,
        cache_write_tokens: written - long,
        cache_write_long_tokens: long,
        cache_read_tokens: read,
        output_tokens: figures.completion_tokens,
        in_us: false,
        unpriced: sound > 0 || dearer_tier,
    })
}

#[cfg(test)]
mod tests {
    use super::super::{StreamReader, of_whole};
    use super::*;
    use crate::quota::{Provider, Seen};

    const STREAM: &str = include_str!("../../../tests/fixtures/openai_stream.txt");

    #[test]
    fn a_recorded_stream_reads_the_same_in_every_split() {
        let usage = Usage { input_tokens: 3, cache_read_tokens: 16, output_tokens: 10, ..Usage::default() };
        for cut in 0..=STREAM.len() {
            let mut reader = StreamReader::new(Provider::Openai);
            reader.feed(&STREAM.as_bytes()[..cut]);
            reader.feed(&STREAM.as_bytes()[cut..]);
            assert!(reader.is_complete() && reader.is_over());
            assert_eq!(reader.seen().0, Seen::Final(usage), "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_without_figures_is_unreadable_when_it_ended_and_a_part_before() {
        let mut reader = StreamReader::new(Provider::Openai);
        reader.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}],\"usage\":null}\n\n");
        assert_eq!(reader.seen().0, Seen::Part { usage: None, output_tokens: 2 });
        reader.feed(b"data: [DONE]\n\n");
        assert_eq!(reader.seen().0, Seen::Unreadable);
    }

    #[test]
    fn a_tier_that_was_not_asked_for_has_no_price() {
        let answer = br#"{"service_tier":"priority","usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
        let (Seen::Final(usage), raw) = of_whole(Provider::Openai, answer) else { panic!("not final") };
        assert!(usage.unpriced && usage.input_tokens == 5);
        assert_eq!(raw, r#"{"prompt_tokens":5,"completion_tokens":2}"#);
        assert_eq!(of_whole(Provider::Openai, b"{}").0, Seen::Unreadable);
    }
}
