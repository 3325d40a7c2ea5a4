//! Usage parser for OpenAI's chat completions: one object at the end, in a stream only with `include_usage`.

use std::borrow::Cow;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::figures::{length, served_in};
use super::stream_progress::StreamProgress;
use crate::{Usage, UsageReport};

#[derive(Deserialize)]
struct ChatChunk<'a> {
    #[serde(borrow, default)]
    choices: Vec<ChatChoice<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<Cow<'a, str>>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct ChatChoice<'a> {
    #[serde(borrow)]
    delta: Option<ChatDelta<'a>>,
}

#[derive(Deserialize)]
struct ChatDelta<'a> {
    #[serde(borrow)]
    content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    refusal: Option<Cow<'a, str>>,
    #[serde(borrow)]
    reasoning_content: Option<Cow<'a, str>>,
    #[serde(borrow)]
    tool_calls: Option<Vec<ToolCall<'a>>>,
    #[serde(borrow)]
    function_call: Option<FunctionCall<'a>>,
}

#[derive(Deserialize)]
struct ToolCall<'a> {
    #[serde(borrow)]
    function: Option<FunctionCall<'a>>,
}

#[derive(Deserialize)]
struct FunctionCall<'a> {
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
    #[serde(borrow)]
    arguments: Option<Cow<'a, str>>,
}

impl FunctionCall<'_> {
    fn bytes(&self) -> u64 {
        length(self.name.as_deref()) + length(self.arguments.as_deref())
    }
}

/// Reads one event of a stream.
pub(super) fn take(data: &[u8], progress: &mut StreamProgress) {
    // The terminator is not JSON.
    if data == b"[DONE]" {
        progress.is_over = true;
        progress.is_final |= progress.usage.is_some();
        return;
    }
    let Ok(chunk) = serde_json::from_slice::<ChatChunk<'_>>(data) else {
        return progress.add_unparsed(data.len());
    };
    // Once a stream has begun, its status is 200, so an error can arrive only as a chunk.
    if chunk.error.is_some() {
        progress.failed = true;
        progress.is_over = true;
    }
    for delta in chunk.choices.iter().filter_map(|choice| choice.delta.as_ref()) {
        let calls = delta.tool_calls.iter().flatten().filter_map(|call| call.function.as_ref());
        progress.answer_bytes += [&delta.content, &delta.refusal, &delta.reasoning_content]
            .iter()
            .map(|text| length(text.as_deref()))
            .chain(calls.chain(&delta.function_call).map(FunctionCall::bytes))
            .sum::<u64>();
    }
    if let Some(usage) = chunk.usage {
        progress.usage = read_usage(usage, chunk.service_tier.as_deref());
        // Some providers repeat running totals in every chunk; only the chunk without choices has the final totals.
        progress.is_final = chunk.choices.is_empty() && progress.usage.is_some();
        progress.keep_raw(usage);
    }
}

#[derive(Deserialize)]
struct ChatUsage {
    prompt_tokens: u64,
    completion_tokens: u64,
    prompt_tokens_details: Option<PromptDetails>,
    completion_tokens_details: Option<CompletionDetails>,
}

#[derive(Default, Deserialize)]
struct PromptDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cache_write_tokens_details: Option<CacheWriteDetails>,
    audio_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CacheWriteDetails {
    ttl_12h_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct CompletionDetails {
    audio_tokens: Option<u64>,
}

/// Converts the figures. `prompt_tokens` includes cache reads and writes, unlike Anthropic's `input_tokens`.
fn read_usage(usage: &RawValue, service_tier: Option<&str>) -> Option<Usage> {
    let figures: ChatUsage = serde_json::from_str(usage.get()).ok()?;
    let prompt = figures.prompt_tokens_details.unwrap_or_default();
    // `min` prevents an underflow in the differences below when the provider's figures contradict each other.
    let read = prompt.cached_tokens.unwrap_or(0).min(figures.prompt_tokens);
    let written = prompt.cache_write_tokens.unwrap_or(0).min(figures.prompt_tokens - read);
    let long = prompt.cache_write_tokens_details.and_then(|d| d.ttl_12h_tokens).unwrap_or(0).min(written);
    let audio = prompt.audio_tokens.unwrap_or(0)
        + figures.completion_tokens_details.and_then(|details| details.audio_tokens).unwrap_or(0);
    let tier = served_in(service_tier);
    Some(Usage {
        input_tokens: figures.prompt_tokens - read - written,
        cache_write_tokens: written - long,
        cache_write_long_tokens: long,
        cache_read_tokens: read,
        output_tokens: figures.completion_tokens,
        tier: tier.unwrap_or_default(),
        unpriced: audio > 0 || tier.is_none(),
        ..Usage::default()
    })
}

#[derive(Deserialize)]
struct ChatCompletion<'a> {
    #[serde(borrow)]
    usage: &'a RawValue,
    #[serde(borrow)]
    service_tier: Option<Cow<'a, str>>,
}

pub(super) fn of_response(body: &[u8]) -> Option<(UsageReport, &str)> {
    let answer: ChatCompletion<'_> = serde_json::from_slice(body).ok()?;
    let usage = read_usage(answer.usage, answer.service_tier.as_deref())?;
    Some((UsageReport::Final(usage), answer.usage.get()))
}

#[cfg(test)]
mod tests {
    use super::super::{UsageReader, UsageReading, usage_of_response};
    use super::{Usage, UsageReport};
    use crate::Api;
    use crate::ServiceTier;

    const STREAM: &str = include_str!("../../tests/transcripts/chat/cache.sse");

    #[test]
    fn a_recorded_stream_reads_the_same_in_every_split() {
        let usage = Usage { input_tokens: 3, cache_read_tokens: 16, output_tokens: 10, ..Usage::default() };
        for cut in 0..=STREAM.len() {
            let mut reader = UsageReader::new(Api::ChatCompletions);
            reader.feed(&STREAM.as_bytes()[..cut]);
            reader.feed(&STREAM.as_bytes()[cut..]);
            assert!(reader.is_complete() && reader.is_over());
            assert_eq!(reader.reading().report, UsageReport::Final(usage), "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_without_figures_is_a_part_and_after_its_end_unreadable() {
        let mut reader = UsageReader::new(Api::ChatCompletions);
        reader.feed(b"data: {\"choices\":[{\"delta\":{\"content\":\"four\"}}],\"usage\":null}\n\n");
        assert_eq!(reader.reading().report, UsageReport::Part { usage: None, output_tokens: 2 });
        reader.feed(b"data: [DONE]\n\n");
        assert_eq!(reader.reading().report, UsageReport::Unreadable);
    }

    #[test]
    fn the_reported_tier_counts_and_an_unknown_one_has_no_price() {
        let answer = br#"{"service_tier":"warp","usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
        let UsageReport::Final(usage) = usage_of_response(Api::ChatCompletions, answer).report else {
            panic!("not final")
        };
        assert!(usage.unpriced && usage.input_tokens == 5);
        let answer = br#"{"service_tier":"priority","usage":{"prompt_tokens":5,"completion_tokens":2}}"#;
        let UsageReading { report: UsageReport::Final(usage), raw_json: raw } =
            usage_of_response(Api::ChatCompletions, answer)
        else {
            panic!("not final")
        };
        assert!(!usage.unpriced && usage.tier == ServiceTier::Priority);
        assert_eq!(raw, r#"{"prompt_tokens":5,"completion_tokens":2}"#);
        assert_eq!(usage_of_response(Api::ChatCompletions, b"{}").report, UsageReport::Unreadable);
    }
}
