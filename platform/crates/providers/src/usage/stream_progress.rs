//! The knowledge that a reader gained from a stream so far.

use serde_json::value::RawValue;

use crate::Usage;

/// The longest `usage` object that is kept for the receipt, in bytes. Real ones have a few hundred.
const MAX_RAW_USAGE: usize = 16 * 1024;

/// What the events so far have shown.
#[derive(Default)]
pub(super) struct StreamProgress {
    /// The provider's latest figures.
    pub(super) usage: Option<Usage>,
    /// Whether `usage` is final.
    pub(super) is_final: bool,
    /// The provider announced the end of the stream.
    pub(super) is_over: bool,
    /// Whether the provider reported an error within the stream.
    pub(super) failed: bool,
    /// Bytes of generated text, without their JSON frame.
    pub(super) answer_bytes: u64,
    /// Web searches seen in the events.
    pub(super) web_searches: u64,
    /// The provider's own JSON of the first figures, and of the last if there are several.
    pub(super) raw: [Option<String>; 2],
}

impl StreamProgress {
    /// Counts an unparsable event as output, which overestimates the tokens.
    pub(super) fn add_unparsed(&mut self, bytes: usize) {
        self.answer_bytes = self.answer_bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(super) fn keep_raw(&mut self, figures: &RawValue) {
        // An oversized object leaves an empty line, which preserves the order of first and last.
        let text = if figures.get().len() <= MAX_RAW_USAGE { figures.get() } else { "" };
        let place = if self.raw[0].is_none() { 0 } else { 1 };
        self.raw[place] = Some(text.to_owned());
    }
}
