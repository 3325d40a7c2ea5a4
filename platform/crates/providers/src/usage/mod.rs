//! What a call used, read beside the path of its bytes.

mod chat;
mod embeddings;
mod messages;
mod responses;
mod sse;

use events::{SseEvent, SseSplitter};
use serde_json::value::RawValue;

use super::api::Api;
use crate::{ServiceTier, Usage, UsageReport};

/// Bytes of an answer per output token, estimated rather too low, for streams that broke off. English has about four,
/// Chinese and hexadecimal two to three.
const BYTES_PER_TOKEN: u64 = 2;
/// Figures are kept with the receipt as the provider wrote them, unless they are longer than any that mean something.
const LONGEST_FIGURES: usize = 16 * 1024;

/// Reads the usage out of one API's stream, in whatever pieces it comes.
pub struct UsageReader {
    events: SseSplitter,
    shape: StreamFormat,
    progress: StreamProgress,
}

enum StreamFormat {
    /// Its figures come in parts.
    Messages(messages::MessagesUsage),
    Chat,
    Responses,
}

/// What the events so far said.
#[derive(Default)]
struct StreamProgress {
    /// The provider's figures so far.
    usage: Option<Usage>,
    /// They are the last ones.
    is_final: bool,
    /// Nothing more will come.
    is_over: bool,
    /// The provider gave up in the middle.
    failed: bool,
    /// Of the answer itself.
    answer_bytes: u64,
    /// Searches that were seen to be made.
    web_searches: u64,
    /// The figures as the provider wrote them: the first, and the last where there are more.
    raw: [Option<String>; 2],
}

impl StreamProgress {
    fn take_unseen(&mut self, bytes: usize) {
        self.answer_bytes = self.answer_bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    fn keep(&mut self, figures: &RawValue) {
        let text = if figures.get().len() <= LONGEST_FIGURES { figures.get() } else { "" };
        let place = if self.raw[0].is_none() { 0 } else { 1 };
        self.raw[place] = Some(text.to_owned());
    }
}

impl UsageReader {
    #[must_use]
    pub fn new(api: Api) -> Self {
        let shape = match api {
            Api::Messages => StreamFormat::Messages(messages::MessagesUsage::default()),
            // The last two are never streamed.
            Api::ChatCompletions | Api::Embeddings | Api::Metered { .. } => StreamFormat::Chat,
            Api::Responses => StreamFormat::Responses,
        };
        Self { events: SseSplitter::default(), shape, progress: StreamProgress::default() }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { events, shape, progress } = self;
        events.feed(bytes, &mut |event| shape.take(&event, progress));
    }

    /// The upstream closed the stream.
    pub fn finish(&mut self) {
        let Self { events, shape, progress } = self;
        events.finish(&mut |event| shape.take(&event, progress));
    }

    /// Whether the provider said that nothing more comes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.progress.is_over
    }

    /// Whether the answer came to its end and the figures are final.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.progress.is_final && !self.progress.failed
    }

    /// What is known now, and the provider's own figures as JSON.
    #[must_use]
    pub fn seen(&self) -> (UsageReport, String) {
        let progress = &self.progress;
        let seen = match progress.usage {
            Some(usage) if progress.is_final => UsageReport::Final(usage),
            // It finished, and said nothing of what it used.
            None if progress.is_over && !progress.failed => UsageReport::Unreadable,
            usage => {
                let searched = |usage: Usage| usage.web_searches.max(progress.web_searches);
                let usage = usage.map(|usage| Usage { web_searches: searched(usage), ..usage });
                UsageReport::Part { usage, output_tokens: progress.answer_bytes.div_ceil(BYTES_PER_TOKEN) }
            }
        };
        (seen, progress.raw.iter().flatten().map(String::as_str).collect::<Vec<_>>().join("\n"))
    }

    /// Bytes in memory because an event has not come to its end.
    #[cfg(test)]
    fn kept_bytes(&self) -> usize {
        self.events.kept_bytes()
    }
}

impl StreamFormat {
    fn take(&mut self, event: &SseEvent<'_>, progress: &mut StreamProgress) {
        let data = match event {
            SseEvent::Data(data) => data,
            SseEvent::TooLong(bytes) => return progress.take_unseen(*bytes),
        };
        match self {
            Self::Messages(figures) => figures.take(data, progress),
            Self::Chat => chat::take(data, progress),
            Self::Responses => responses::take(data, progress),
        }
    }
}

/// Reads the usage of an answer that came in one piece, and gives it back as JSON too.
#[must_use]
pub fn of_whole(api: Api, body: &[u8]) -> (UsageReport, String) {
    let read = match api {
        Api::Messages => messages::of_whole(body),
        Api::ChatCompletions => chat::of_whole(body),
        Api::Responses => responses::of_whole(body),
        Api::Embeddings => embeddings::of_whole(body),
        Api::Metered { sent: None } => Some((UsageReport::Final(Usage::default()), "")),
        Api::Metered { sent: Some(sent) } => {
            let output_tokens = u64::try_from(body.len()).unwrap_or(u64::MAX);
            Some((UsageReport::Final(Usage { input_tokens: sent, output_tokens, ..Usage::default() }), ""))
        }
    };
    read.map_or((UsageReport::Unreadable, String::new()), |(seen, raw)| (seen, raw.to_owned()))
}

/// The tier that OpenAI says it served a call in; older models say nothing. `None`: one without a price here.
fn served_in(service_tier: Option<&str>) -> Option<ServiceTier> {
    service_tier.map_or(Some(ServiceTier::Standard), ServiceTier::of_openai)
}

fn length(text: Option<&str>) -> u64 {
    text.map_or(0, |text| u64::try_from(text.len()).unwrap_or(u64::MAX / 4))
}

#[cfg(test)]
#[path = "transcripts_tests.rs"]
mod transcripts;
