//! Detached work: a future that continues on a task of its own when its caller is dropped, because the provider charges
//! for the call either way.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::drain::DrainLimit;

/// Runs in the caller's task. It is spawned only when it is dropped before its end, so the usual call does not pay for
/// a task.
pub struct DetachedWork<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    drains: Option<DrainLimit>,
}

impl<T: Send + 'static> DetachedWork<T> {
    /// Work that continues after a drop until it ends.
    pub fn to_completion(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), drains: None }
    }

    /// Work that continues after a drop as a drain: only if a slot is free, and until the timeout.
    pub fn as_drain(work: impl Future<Output = T> + Send + 'static, drains: DrainLimit) -> Self {
        Self { work: Some(Box::pin(work)), drains: Some(drains) }
    }
}

impl<T: Send + 'static> Future for DetachedWork<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let result = work.as_mut().poll(cx);
        if result.is_ready() {
            // Completed work must not be spawned on drop.
            self.work = None;
        }
        result
    }
}

impl<T: Send + 'static> Drop for DetachedWork<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        // Without a runtime the process is ending; the next start settles the hold from the journal.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let drains = self.drains.take();
        // The result is dropped. If it is a streamed response, its own drop drains the stream.
        runtime.spawn(async move {
            match drains {
                Some(drains) => drop(drains.run(work).await),
                None => drop(work.await),
            }
        });
    }
}
