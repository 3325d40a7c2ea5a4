//! A billed stream: a provider's response stream, together with the hold that pays for it.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use berth_providers::{Api, UsageReader, UsageReading, UsageReport};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};

use crate::instances::WorkInFlight;
use crate::quota::{CallOutcome, Hold};

/// Checkpoint interval, in bytes of the stream: the usage so far is written to the journal, for a settlement after a
/// crash. SSE frames are about ten times as long as their text, so the interval is some hundred tokens.
const CHECKPOINT_EVERY: usize = 64 * 1024;

/// A stream that settles its hold exactly once: at its end, or when it is dropped.
pub struct BilledStream {
    /// Keeps the instance awake as long as the stream exists.
    _work: WorkInFlight,
    upstream: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    reader: UsageReader,
    /// `None` once settled.
    hold: Option<Hold>,
    /// Bytes since the last checkpoint.
    unwritten: usize,
}

impl BilledStream {
    pub fn new(api: Api, response: reqwest::Response, hold: Hold, work: WorkInFlight) -> Self {
        let upstream = Box::pin(response.bytes_stream());
        Self { _work: work, upstream, reader: UsageReader::new(api), hold: Some(hold), unwritten: 0 }
    }

    /// The next chunk. Backpressure: nothing is read ahead of the client.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<reqwest::Result<Bytes>>> {
        let next = ready!(self.upstream.as_mut().poll_next(cx));
        match &next {
            Some(Ok(chunk)) => {
                self.reader.feed(chunk);
                // Order: the hold is settled before the client sees the end, so that the client's next call finds the
                // money free.
                if self.reader.is_over() {
                    self.settle(self.outcome_at_end(), self.reader.reading());
                } else {
                    self.checkpoint(chunk.len());
                }
            }
            Some(Err(error)) => {
                let mut reading = self.reader.reading();
                // A client that stops reading also causes this timeout, so it must not pay less than for a disconnect.
                if error.is_timeout() {
                    reading.report = reading.report.cut_off();
                }
                self.settle(CallOutcome::UpstreamBroke, reading);
            }
            None => {
                self.reader.finish();
                self.settle(self.outcome_at_end(), self.reader.reading());
            }
        }
        Poll::Ready(next)
    }

    fn checkpoint(&mut self, bytes: usize) {
        self.unwritten += bytes;
        if self.unwritten >= CHECKPOINT_EVERY
            && let Some(hold) = &self.hold
        {
            self.unwritten = 0;
            hold.saw(self.reader.reading().report);
        }
    }

    /// Reads the stream until its usage figures are known, or until it ends.
    pub async fn read_to_figures(&mut self) {
        while !self.has_figures() {
            match self.upstream.next().await {
                Some(Ok(chunk)) => self.reader.feed(&chunk),
                Some(Err(_)) => return,
                None => return self.reader.finish(),
            }
        }
    }

    #[must_use]
    pub fn has_figures(&self) -> bool {
        self.reader.is_complete() || self.reader.is_over()
    }

    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.hold.is_none()
    }

    fn outcome_at_end(&self) -> CallOutcome {
        if self.reader.is_complete() { CallOutcome::Completed } else { CallOutcome::UpstreamBroke }
    }

    fn settle(&mut self, outcome: CallOutcome, reading: UsageReading) {
        if let Some(hold) = self.hold.take() {
            if reading.report == UsageReport::Unreadable {
                tracing::error!("a stream ended without readable usage; its whole hold is charged");
            }
            hold.settle(reading.report, outcome, reading.raw_json);
        }
    }
}

impl Drop for BilledStream {
    // Dropping the upstream's stream closes the connection, which makes the provider stop generating.
    fn drop(&mut self) {
        let mut reading = self.reader.reading();
        if !self.reader.is_over() {
            reading.report = reading.report.cut_off();
        }
        self.settle(CallOutcome::ClientGone, reading);
    }
}
