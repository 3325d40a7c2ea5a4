//! Work that goes on when whoever waits for it is dropped: what a provider was asked to do it does, and charges.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::drain::Drains;

/// Runs where it is awaited, and needs a task of its own only when its waiter is dropped before the end.
pub struct Outliving<T: Send + 'static> {
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
    drains: Option<Drains>,
}

impl<T: Send + 'static> Outliving<T> {
    /// Goes on to its end.
    pub fn to_its_end(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)), drains: None }
    }

    /// Goes on if `drains` have a place for it, and for as long as they wait.
    pub fn for_a_while(work: impl Future<Output = T> + Send + 'static, drains: Drains) -> Self {
        Self { work: Some(Box::pin(work)), drains: Some(drains) }
    }
}

impl<T: Send + 'static> Future for Outliving<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        let done = work.as_mut().poll(cx);
        if done.is_ready() {
            self.work = None;
        }
        done
    }
}

impl<T: Send + 'static> Drop for Outliving<T> {
    fn drop(&mut self) {
        let Some(work) = self.work.take() else { return };
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let drains = self.drains.take();
        // What it comes to is dropped, and an answer that is dropped is read on.
        runtime.spawn(async move {
            match drains {
                Some(drains) => drop(drains.wait(work).await),
                None => drop(work.await),
            }
        });
    }
}
