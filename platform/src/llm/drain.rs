//! A stream whose client went before the provider named its figures is read on to them, so that nobody gets reasoning
//! for nothing by hanging up just in time. For a while only, not too many at once, and no byte of it is kept.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::Semaphore;

use crate::instances::WorkInFlight;
use crate::quota::{Hold, Outcome, Seen};
use berth_providers::Api;
use berth_providers::UsageReader;

/// The drains of one door. Cheap to clone.
#[derive(Clone)]
pub struct Drains {
    places: Arc<Semaphore>,
    within: Duration,
}

impl Drains {
    #[must_use]
    pub fn new(most: usize, within: Duration) -> Self {
        Self { places: Arc::new(Semaphore::new(most)), within }
    }

    /// What `future` comes to, if there is a place for it and it comes in time.
    pub async fn wait<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let _place = self.places.try_acquire().ok()?;
        tokio::time::timeout(self.within, future).await.ok()
    }

    /// Reads `flow` on to its figures. Where that cannot be, dropping it settles it.
    pub fn read_on(&self, mut flow: Flow) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if flow.hold.is_none() || flow.has_figures() {
            return;
        }
        let drains = self.clone();
        runtime.spawn(async move {
            if drains.wait(flow.read_to_figures()).await.is_none() {
                tracing::info!("the figures of a call that its client left did not come in time");
            }
        });
    }
}

/// After so many bytes of an answer, what was seen of it is written down again. Frames are ten times what they bring,
/// so that is some hundred tokens.
const WRITTEN_DOWN_EVERY: usize = 64 * 1024;

/// A stream of a provider with the hold that pays for it: settled at its end, or when it is dropped.
pub struct Flow {
    /// The instance's work until then.
    _work: WorkInFlight,
    upstream: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    reader: UsageReader,
    hold: Option<Hold>,
    /// Bytes since what was seen was written down.
    unwritten: usize,
}

impl Flow {
    pub fn new(api: Api, answer: reqwest::Response, hold: Hold, work: WorkInFlight) -> Self {
        let upstream = Box::pin(answer.bytes_stream());
        Self { _work: work, upstream, reader: UsageReader::new(api), hold: Some(hold), unwritten: 0 }
    }

    /// The next piece. Nothing is read ahead.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<reqwest::Result<Bytes>>> {
        let next = ready!(self.upstream.as_mut().poll_next(cx));
        match &next {
            Some(Ok(chunk)) => {
                self.reader.feed(chunk);
                // Before the client sees the end, so that its next call finds this one's hold settled.
                if self.reader.is_over() {
                    self.settle(self.outcome_at_end(), self.reader.seen());
                } else {
                    self.write_down(chunk.len());
                }
            }
            Some(Err(error)) => {
                let (seen, raw) = self.reader.seen();
                // A client that takes nothing for long enough brings this about as well.
                let seen = if error.is_timeout() { seen.cut_off() } else { seen };
                self.settle(Outcome::UpstreamBroke, (seen, raw));
            }
            None => {
                self.reader.finish();
                self.settle(self.outcome_at_end(), self.reader.seen());
            }
        }
        Poll::Ready(next)
    }

    fn write_down(&mut self, more: usize) {
        self.unwritten += more;
        if self.unwritten >= WRITTEN_DOWN_EVERY
            && let Some(hold) = &self.hold
        {
            self.unwritten = 0;
            hold.saw(self.reader.seen().0);
        }
    }

    async fn read_to_figures(&mut self) {
        while !self.has_figures() {
            match self.upstream.next().await {
                Some(Ok(chunk)) => self.reader.feed(&chunk),
                Some(Err(_)) => return,
                None => return self.reader.finish(),
            }
        }
    }

    fn has_figures(&self) -> bool {
        self.reader.is_complete() || self.reader.is_over()
    }

    fn outcome_at_end(&self) -> Outcome {
        if self.reader.is_complete() { Outcome::Completed } else { Outcome::UpstreamBroke }
    }

    fn settle(&mut self, outcome: Outcome, (seen, raw): (Seen, String)) {
        if let Some(hold) = self.hold.take() {
            if seen == Seen::Unreadable {
                tracing::error!("a stream ended without readable usage; what was held for it is charged");
            }
            hold.settle(seen, outcome, raw);
        }
    }
}

impl Drop for Flow {
    /// Dropping the upstream's stream closes it there as well.
    fn drop(&mut self) {
        let (seen, raw) = self.reader.seen();
        let seen = if self.reader.is_over() { seen } else { seen.cut_off() };
        self.settle(Outcome::ClientGone, (seen, raw));
    }
}
