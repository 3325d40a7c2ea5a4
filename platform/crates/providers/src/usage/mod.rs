//! Usage parsers: they observe the bytes of a response and never delay or change them.

mod chat;
mod embeddings;
mod figures;
mod messages;
mod responses;
mod sse;
mod stream_progress;

use sse::{SseEvent, SseSplitter};
use stream_progress::StreamProgress;

use super::api::Api;
use crate::{Usage, UsageReport};

/// Bytes of an answer per output token, for the estimate when a stream breaks off. English has about four, Chinese and
/// hexadecimal text two to three, so two overestimates the tokens.
const BYTES_PER_TOKEN: u64 = 2;

/// The usage parser for the stream of one API, independent of how the stream is cut into chunks.
pub struct UsageReader {
    events: SseSplitter,
    format: StreamFormat,
    progress: StreamProgress,
}

/// The event format of an API, with the parser state that it needs.
enum StreamFormat {
    /// Anthropic sends its figures in several events.
    Messages(messages::MessagesUsage),
    Chat,
    Responses,
}

impl UsageReader {
    #[must_use]
    pub fn new(api: Api) -> Self {
        let format = match api {
            Api::Messages => StreamFormat::Messages(messages::MessagesUsage::default()),
            // Embeddings and metered APIs are never streamed.
            Api::ChatCompletions | Api::Embeddings | Api::Metered { .. } => StreamFormat::Chat,
            Api::Responses => StreamFormat::Responses,
        };
        Self { events: SseSplitter::default(), format, progress: StreamProgress::default() }
    }

    /// Takes the next chunk of the response.
    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { events, format, progress } = self;
        events.feed(bytes, &mut |event| format.take(&event, progress));
    }

    /// Ends the stream, because the provider closed it.
    pub fn finish(&mut self) {
        let Self { events, format, progress } = self;
        events.finish(&mut |event| format.take(&event, progress));
    }

    /// Whether the provider announced the end of the stream.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.progress.is_over
    }

    /// Whether the answer is complete and its figures are final.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.progress.is_final && !self.progress.failed
    }

    /// The usage as currently known.
    #[must_use]
    pub fn reading(&self) -> UsageReading {
        let progress = &self.progress;
        let report = match progress.usage {
            Some(usage) if progress.is_final => UsageReport::Final(usage),
            // A complete stream without figures: its cost is unknown, and an estimate would be a discount.
            None if progress.is_over && !progress.failed => UsageReport::Unreadable,
            usage => {
                let searches = |usage: Usage| usage.web_searches.max(progress.web_searches);
                let usage = usage.map(|usage| Usage { web_searches: searches(usage), ..usage });
                UsageReport::Part { usage, output_tokens: progress.answer_bytes.div_ceil(BYTES_PER_TOKEN) }
            }
        };
        let raw_json = progress.raw.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\n");
        UsageReading { report, raw_json }
    }

    /// Bytes of buffers for an incomplete event.
    #[cfg(test)]
    fn buffered_bytes(&self) -> usize {
        self.events.buffered_bytes()
    }
}

/// The usage of a call, as parsed from its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageReading {
    pub report: UsageReport,
    /// The provider's own `usage` objects as JSON, one per line; empty without any.
    pub raw_json: String,
}

impl UsageReading {
    /// The reading of a call without figures of the provider.
    #[must_use]
    pub fn without_figures(report: UsageReport) -> Self {
        Self { report, raw_json: String::new() }
    }
}

impl StreamFormat {
    fn take(&mut self, event: &SseEvent<'_>, progress: &mut StreamProgress) {
        let data = match event {
            SseEvent::Data(data) => data,
            SseEvent::TooLong(bytes) => return progress.add_unparsed(*bytes),
        };
        match self {
            Self::Messages(usage) => usage.take(data, progress),
            Self::Chat => chat::take(data, progress),
            Self::Responses => responses::take(data, progress),
        }
    }
}

/// Reads the usage of a response that is not a stream.
#[must_use]
pub fn usage_of_response(api: Api, body: &[u8]) -> UsageReading {
    let read = match api {
        Api::Messages => messages::of_response(body),
        Api::ChatCompletions => chat::of_response(body),
        Api::Responses => responses::of_response(body),
        Api::Embeddings => embeddings::of_response(body),
        Api::Metered { sent: None } => Some((UsageReport::Final(Usage::default()), "")),
        // Bytes replace tokens, see `Api::Metered`.
        Api::Metered { sent: Some(sent) } => {
            let output_tokens = u64::try_from(body.len()).unwrap_or(u64::MAX);
            Some((UsageReport::Final(Usage { input_tokens: sent, output_tokens, ..Usage::default() }), ""))
        }
    };
    let (report, raw) = read.unwrap_or((UsageReport::Unreadable, ""));
    UsageReading { report, raw_json: raw.to_owned() }
}

#[cfg(test)]
#[path = "transcripts_tests.rs"]
mod transcripts;
