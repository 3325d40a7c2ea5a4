//! Usage in Anthropic's Messages: `message_start` has it all but the output, `message_delta` the cumulative figures.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::Value;

use super::{Progress, length};
use crate::quota::Usage;

#[derive(Default)]
pub struct Stream {
    figures: Figures,
    progress: Progress,
}

#[derive(Deserialize)]
struct Frame<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    message: Option<Message>,
    usage: Option<Value>,
    #[serde(borrow)]
    delta: Option<Delta<'a>>,
}

#[derive(Deserialize)]
struct Message {
    usage: Option<Value>,
}

#[derive(Deserialize)]
struct Delta<'a> {
    stop_reason: Option<Value>,
    #[serde(borrow)]
    text: Option<Cow<'a, str>>,
    #[serde(borrow)]
    partial_json: Option<Cow<'a, str>>,
    #[serde(borrow)]
    thinking: Option<Cow<'a, str>>,
    #[serde(borrow)]
    signature: Option<Cow<'a, str>>,
}

impl Stream {
    pub(super) fn progress(&self) -> &Progress {
        &self.progress
    }

    pub(super) fn take_unseen(&mut self, bytes: usize) {
        self.progress.answer_bytes += u64::try_from(bytes).unwrap_or(0);
    }

    pub(super) fn take(&mut self, data: &[u8]) {
        let Ok(frame) = serde_json::from_slice::<Frame<'_>>(data) else { return self.take_unseen(data.len()) };
        match &*frame.kind {
            "message_start" => {
                if let Some(usage) = frame.message.and_then(|message| message.usage) {
                    self.note(&usage);
                }
            }
            "content_block_delta" => {
                let Some(delta) = frame.delta else { return };
                let parts = [&delta.text, &delta.partial_json, &delta.thinking, &delta.signature];
                self.progress.answer_bytes += parts.iter().map(|part| length(part.as_deref())).sum::<u64>().max(1);
            }
            "message_delta" => {
                if let Some(usage) = frame.usage {
                    self.note(&usage);
                    self.progress.is_final |= frame.delta.is_some_and(|delta| delta.stop_reason.is_some());
                }
            }
            "message_stop" => {
                self.progress.is_over = true;
                self.progress.is_final |= self.progress.usage.is_some();
            }
            "error" => {
                self.progress.failed = true;
                self.progress.is_over = true;
            }
            // Pings, block ends, and whatever comes to be.
            _ => {}
        }
    }

    fn note(&mut self, usage: &Value) {
        let Ok(newer) = Figures::deserialize(usage) else { return };
        self.figures.replace_by(newer);
        self.progress.usage = Some(self.figures.usage());
        if !self.progress.raw.is_empty() {
            self.progress.raw.push('\n');
        }
        self.progress.raw.push_str(&usage.to_string());
    }
}

/// The `usage` object, as far as it is money.
#[derive(Default, Deserialize)]
struct Figures {
    input_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation: Option<CacheCreation>,
    inference_geo: Option<String>,
    speed: Option<String>,
    server_tool_use: Option<Value>,
}

#[derive(Deserialize)]
struct CacheCreation {
    ephemeral_1h_input_tokens: Option<u64>,
}

impl Figures {
    /// Figures are cumulative: a later one replaces an earlier one, an absent one leaves it.
    fn replace_by(&mut self, newer: Self) {
        self.input_tokens = newer.input_tokens.or(self.input_tokens);
        self.cache_creation_input_tokens = newer.cache_creation_input_tokens.or(self.cache_creation_input_tokens);
        self.cache_read_input_tokens = newer.cache_read_input_tokens.or(self.cache_read_input_tokens);
        self.output_tokens = newer.output_tokens.or(self.output_tokens);
        self.cache_creation = newer.cache_creation.or(self.cache_creation.take());
        self.inference_geo = newer.inference_geo.or(self.inference_geo.take());
        self.speed = newer.speed.or(self.speed.take());
        self.server_tool_use = newer.server_tool_use.or(self.server_tool_use.take());
    }

    /// `input_tokens` excludes the cache here, unlike OpenAI's.
    fn usage(&self) -> Usage {
        let written = self.cache_creation_input_tokens.unwrap_or(0);
        let long = self.cache_creation.as_ref().and_then(|c| c.ephemeral_1h_input_tokens).unwrap_or(0).min(written);
        let tools_used = self
            .server_tool_use
            .as_ref()
            .and_then(Value::as_object)
            .is_some_and(|tools| tools.values().any(|uses| uses.as_u64().is_some_and(|n| n > 0)));
        Usage {
            input_tokens: self.input_tokens.unwrap_or(0),
            cache_write_tokens: written - long,
            cache_write_long_tokens: long,
            cache_read_tokens: self.cache_read_input_tokens.unwrap_or(0),
            output_tokens: self.output_tokens.unwrap_or(0),
            in_us: self.inference_geo.as_deref() == Some("us"),
            unpriced: tools_used || self.speed.as_deref().is_some_and(|speed| speed != "standard"),
        }
    }
}

/// The usage of an answer in one piece. `None` when it does not say what it used.
pub(super) fn read_usage(usage: &Value) -> Option<Usage> {
    let figures = Figures::deserialize(usage).ok()?;
    (figures.input_tokens.is_some() && figures.output_tokens.is_some()).then(|| figures.usage())
}

#[cfg(test)]
mod tests {
    use super::super::StreamReader;
    use super::*;
    use crate::quota::{Provider, Seen};

    const STREAM: &str = include_str!("../../../tests/fixtures/anthropic_stream.txt");

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
            let mut reader = StreamReader::new(Provider::Anthropic);
            reader.feed(&STREAM.as_bytes()[..cut]);
            reader.feed(&STREAM.as_bytes()[cut..]);
            reader.finish();
            assert!(reader.is_complete() && reader.is_over());
            assert_eq!(reader.seen().0, Seen::Final(usage(42)), "cut at {cut}");
        }
    }

    #[test]
    fn a_stream_cut_off_in_the_answer_counts_what_was_seen() {
        let mut reader = StreamReader::new(Provider::Anthropic);
        let cut = STREAM.find("event: message_delta").unwrap();
        reader.feed(&STREAM.as_bytes()[..cut]);
        assert!(!reader.is_over());
        let Seen::Part { usage: Some(seen), output_tokens } = reader.seen().0 else { panic!("not a part") };
        assert_eq!(seen, usage(1));
        // "Hello", " there!" and a signature.
        assert!((6..30).contains(&output_tokens), "{output_tokens}");
    }

    #[test]
    fn an_error_in_the_stream_is_the_end_and_not_completion() {
        let mut reader = StreamReader::new(Provider::Anthropic);
        reader.feed(
            b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"x\"}}\n\n",
        );
        assert!(reader.is_over() && !reader.is_complete());
        assert_eq!(reader.seen().0, Seen::Part { usage: None, output_tokens: 0 });
    }
}
