//! Usage parser for Anthropic's Messages: `message_start` contains all but the output, `message_delta` cumulative
//! totals.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;
use serde_json::value::RawValue;

use super::figures::length;
use super::stream_progress::StreamProgress;
use crate::{ServiceTier, Usage, UsageReport};

#[derive(Deserialize)]
struct StreamEvent<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    message: Option<MessageStart<'a>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    content_block: Option<ContentBlock<'a>>,
    #[serde(borrow)]
    delta: Option<ContentDelta<'a>>,
}

#[derive(Deserialize)]
struct MessageStart<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ContentBlock<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    #[serde(borrow)]
    name: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ContentDelta<'a> {
    stop_reason: Option<IgnoredAny>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
}

/// The `usage` object, reduced to the priced members.
#[derive(Default, Deserialize)]
pub(super) struct MessagesUsage {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    inference_geo: Option<String>,
    speed: Option<String>,
    server_tool_use: Option<BTreeMap<String, Value>>,
}

#[derive(Deserialize)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

impl MessagesUsage {
    /// Reads one event of a stream.
    pub(super) fn take(&mut self, data: &[u8], progress: &mut StreamProgress) {
        let Ok(frame) = serde_json::from_slice::<StreamEvent<'_>>(data) else {
            return progress.add_unparsed(data.len());
        };
        match &*frame.kind {
            "message_start" => {
                if let Some(usage) = frame.message.and_then(|message| message.usage) {
                    self.note(usage, progress);
                }
            }
            // The figures count searches only at the end. Counting their blocks charges for searches when the stream
            // breaks off.
            "content_block_start" => {
                let searches = |block: &ContentBlock<'_>| {
                    block.kind == "server_tool_use" && block.name.as_deref() == Some("web_search")
                };
                progress.web_searches += u64::from(frame.content_block.as_ref().is_some_and(searches));
            }
            "content_block_delta" => {
                let Some(delta) = frame.delta else { return };
                let parts = [&delta.text, &delta.partial_json, &delta.thinking, &delta.signature];
                // At least one: a delta of an unknown type stands for some output as well.
                progress.answer_bytes += parts.iter().map(|part| length(part.as_deref())).sum::<u64>().max(1);
            }
            "message_delta" => {
                if let Some(usage) = frame.usage {
                    self.note(usage, progress);
                    // Without a stop reason the totals are still running.
                    progress.is_final |= frame.delta.is_some_and(|delta| delta.stop_reason.is_some());
                }
            }
            // Even without a stop reason the stream is complete here, if it had figures at all.
            "message_stop" => {
                progress.is_over = true;
                progress.is_final |= progress.usage.is_some();
            }
            // Once a stream has begun, its status is 200, so an error can arrive only as an event.
            "error" => {
                progress.failed = true;
                progress.is_over = true;
            }
            // Pings, ends of blocks, and unknown events.
            _ => {}
        }
    }

    fn note(&mut self, usage: &RawValue, progress: &mut StreamProgress) {
        let Ok(newer) = serde_json::from_str(usage.get()) else { return };
        self.update(newer);
        progress.usage = Some(self.usage());
        progress.keep_raw(usage);
    }

    /// Merges later figures. They are cumulative: a present figure replaces the earlier one, a missing one keeps it.
    fn update(&mut self, newer: Self) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.cache_creation_input_tokens = newer.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = newer.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
        self.cache_creation = newer.cache_creation.or(self.cache_creation.take());
        self.inference_geo = newer.inference_geo.or(self.inference_geo.take());
        self.speed = newer.speed.or(self.speed.take());
        self.server_tool_use = newer.server_tool_use.or(self.server_tool_use.take());
    }

    /// Converts the figures. `input_tokens` excludes cache reads and writes, unlike OpenAI's.
    fn usage(&self) -> Usage {
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let long = self.cache_creation.as_ref().and_then(|c| c.ephemeral_1h_input_tokens).unwrap_or(0).min(written);
        let speed = match self.speed.as_deref() {
            None | Some("standard") => Some(ServiceTier::Standard),
            Some("fast") => Some(ServiceTier::Fast),
            Some(_) => None,
        };
        let uses = |tool: &Value| tool.as_u64().unwrap_or(0);
        let tools = || self.server_tool_use.iter().flatten();
        // Fetching a page costs only its tokens. Any other tool has an unknown price.
        let uses_unpriced_tool =
            tools().any(|(name, n)| uses(n) > 0 && !["web_search_requests", "web_fetch_requests"].contains(&&**name));
        Usage {
            input_tokens: self.input_tokens.unwrap_or(0),
            cache_write_tokens: written - long,
            cache_write_long_tokens: long,
            cache_read_tokens: self.cache_read_input_tokens.unwrap_or(0),
            output_tokens: self.output_tokens.unwrap_or(0),
            web_searches: tools().find(|(name, _)| *name == "web_search_requests").map_or(0, |(_, n)| uses(n)),
            // An unknown speed is marked `unpriced` below, which charges at least the whole hold.
            tier: speed.unwrap_or_default(),
            in_us: self.inference_geo.as_deref() == Some("us"),
            unpriced: speed.is_none() || uses_unpriced_tool,
        }
    }
}

#[derive(Deserialize)]
struct MessageResponse<'a> {
    #[serde(borrow)]
    usage: &'a RawValue,
}

/// Parses the usage of a whole response. `None` when the usage is incomplete.
pub(super) fn of_response(body: &[u8]) -> Option<(UsageReport, &str)> {
    let raw = serde_json::from_slice::<MessageResponse<'_>>(body).ok()?.usage.get();
    let figures: MessagesUsage = serde_json::from_str(raw).ok()?;
    let is_complete = figures.input_tokens.is_some() && figures.output_tokens.is_some();
    is_complete.then(|| (UsageReport::Final(figures.usage()), raw))
}

#[cfg(test)]
mod tests {
    use super::super::UsageReader;
    use super::*;
    use crate::Api;

    const STREAM: &str = include_str!("../../tests/transcripts/messages/cache.sse");

    fn usage(output_tokens: u64) -> Usage {
        Usage {
            input_tokens: 25,
            cache_write_tokens: 100,
            cache_write_long_tokens: 400,
            cache_read_tokens: 1000,
            output_tokens,
            ..Usage::default()
        }
    }

    #[test]
    fn a_recorded_stream_reads_the_same_in_every_split() {
        for cut in 0..=STREAM.len() {
            let mut reader = UsageReader::new(Api::Messages);
            reader.feed(&STREAM.as_bytes()[..cut]);
            reader.feed(&STREAM.as_bytes()[cut..]);
            reader.finish();
            assert!(reader.is_complete() && reader.is_over());
            assert_eq!(reader.reading().report, UsageReport::Final(usage(42)), "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_cut_off_within_the_answer_is_estimated_by_its_bytes() {
        let mut reader = UsageReader::new(Api::Messages);
        let cut = STREAM.find("event: message_delta").unwrap();
        reader.feed(&STREAM.as_bytes()[..cut]);
        assert!(!reader.is_over());
        let UsageReport::Part { usage: Some(seen), output_tokens } = reader.reading().report else {
            panic!("not a part")
        };
        assert_eq!(seen, usage(1));
        // "Hello", " there!" and a signature.
        assert!((6..30).contains(&output_tokens), "{output_tokens}");
    }

    #[test]
    fn an_error_in_the_stream_is_the_end_and_not_completion() {
        let mut reader = UsageReader::new(Api::Messages);
        reader.feed(
            b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
        );
        assert!(reader.is_over() && !reader.is_complete());
        assert_eq!(reader.reading().report, UsageReport::Part { usage: None, output_tokens: 0 });
    }

    #[test]
    fn searches_and_speed_are_read_from_the_figures_or_from_the_events() {
        let start =
            r#"data: {"type":"message_start","message":{"usage":{"input_tokens":9,"output_tokens":1,"speed":"fast"}}}"#;
        let search =
            r#"data: {"type":"content_block_start","content_block":{"type":"server_tool_use","name":"web_search"}}"#;
        let end = r#"data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5,"server_tool_use":{"web_search_requests":2,"web_fetch_requests":1}}}"#;
        let mut reader = UsageReader::new(Api::Messages);
        reader.feed(format!("{start}\n\n{search}\n\n").as_bytes());
        let UsageReport::Part { usage: Some(seen), .. } = reader.reading().report else { panic!("not a part") };
        assert_eq!((seen.web_searches, seen.tier), (1, ServiceTier::Fast));
        reader.feed(format!("{end}\n\n").as_bytes());
        let UsageReport::Final(seen) = reader.reading().report else { panic!("not final") };
        assert_eq!((seen.web_searches, seen.output_tokens, seen.tier, seen.unpriced), (2, 5, ServiceTier::Fast, false));
        let code = br#"{"usage":{"input_tokens":1,"output_tokens":1,"server_tool_use":{"code_execution_requests":1}}}"#;
        assert!(matches!(of_response(code), Some((UsageReport::Final(Usage { unpriced: true, .. }), _))));
    }

    #[test]
    fn only_the_first_and_the_last_figures_are_kept() {
        let mut reader = UsageReader::new(Api::Messages);
        for tokens in 0..1000 {
            reader.feed(
                format!("data: {{\"type\":\"message_delta\",\"usage\":{{\"output_tokens\":{tokens}}}}}\n\n").as_bytes(),
            );
        }
        assert_eq!(reader.reading().raw_json, "{\"output_tokens\":0}\n{\"output_tokens\":999}");
    }
}
