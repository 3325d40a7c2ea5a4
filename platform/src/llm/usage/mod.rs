//! What a call used, read beside the path of its bytes.

pub mod chat;
mod events;
pub mod messages;

use events::{Event, Events};
use serde_json::Value;

use crate::quota::{Provider, Seen, Usage};

/// Bytes of an answer per output token, estimated rather too low, for streams that broke off. English has about four,
/// Chinese and hexadecimal two to three.
const BYTES_PER_TOKEN: u64 = 2;

/// Reads the usage out of one provider's stream, in whatever pieces it comes.
pub struct StreamReader {
    events: Events,
    shape: Shape,
}

enum Shape {
    Anthropic(messages::Stream),
    Openai(chat::Stream),
}

/// What one event said.
#[derive(Default)]
struct Progress {
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
    /// The figures as the provider wrote them.
    raw: String,
}

impl StreamReader {
    #[must_use]
    pub fn new(provider: Provider) -> Self {
        let shape = match provider {
            Provider::Anthropic => Shape::Anthropic(messages::Stream::default()),
            Provider::Openai => Shape::Openai(chat::Stream::default()),
        };
        Self { events: Events::default(), shape }
    }

    pub fn feed(&mut self, bytes: &[u8]) {
        let Self { events, shape } = self;
        events.feed(bytes, &mut |event| shape.take(&event));
    }

    /// The upstream closed the stream.
    pub fn finish(&mut self) {
        let Self { events, shape } = self;
        events.finish(&mut |event| shape.take(&event));
    }

    /// Whether the provider said that nothing more comes.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.progress().is_over
    }

    /// Whether the answer came to its end and the figures are final.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        let progress = self.progress();
        progress.is_final && !progress.failed
    }

    /// What is known now, and the provider's own figures as JSON.
    #[must_use]
    pub fn seen(&self) -> (Seen, String) {
        let progress = self.progress();
        let seen = match progress.usage {
            Some(usage) if progress.is_final => Seen::Final(usage),
            // It finished, and said nothing of what it used.
            None if progress.is_over && !progress.failed => Seen::Unreadable,
            usage => Seen::Part { usage, output_tokens: progress.answer_bytes.div_ceil(BYTES_PER_TOKEN) },
        };
        (seen, progress.raw.clone())
    }

    fn progress(&self) -> &Progress {
        match &self.shape {
            Shape::Anthropic(stream) => stream.progress(),
            Shape::Openai(stream) => stream.progress(),
        }
    }
}

impl Shape {
    fn take(&mut self, event: &Event<'_>) {
        match (self, event) {
            (Self::Anthropic(stream), Event::Data(data)) => stream.take(data),
            (Self::Openai(stream), Event::Data(data)) => stream.take(data),
            (Self::Anthropic(stream), Event::TooLong(bytes)) => stream.take_unseen(*bytes),
            (Self::Openai(stream), Event::TooLong(bytes)) => stream.take_unseen(*bytes),
        }
    }
}

/// Reads the usage of an answer that came in one piece, and gives it back as JSON too.
#[must_use]
pub fn of_whole(provider: Provider, body: &[u8]) -> (Seen, String) {
    let answer: Value = serde_json::from_slice(body).unwrap_or_default();
    let Some(raw) = answer.get("usage").filter(|usage| usage.is_object()) else {
        return (Seen::Unreadable, String::new());
    };
    let usage = match provider {
        Provider::Anthropic => messages::read_usage(raw),
        Provider::Openai => chat::read_usage(raw, answer.get("service_tier")),
    };
    (usage.map_or(Seen::Unreadable, Seen::Final), raw.to_string())
}

fn length(text: Option<&str>) -> u64 {
    text.map_or(0, |text| u64::try_from(text.len()).unwrap_or(u64::MAX / 4))
}
