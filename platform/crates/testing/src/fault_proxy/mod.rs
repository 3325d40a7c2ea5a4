//! A fault-injecting proxy between two processes on a Unix socket: it forwards requests and answers, and can drop,
//! fail, delay, duplicate or hold them. Each verb or endpoint, before its effect and after it, is a named injection
//! point.

mod http;
mod lines;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// When an injection point applies: before the request is forwarded, or after its effect and before the answer is
/// forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Moment {
    Before,
    After,
}

/// What happens at a point.
#[derive(Clone)]
pub enum Deed {
    /// The connection ends.
    Drop,
    /// The answer is that it failed.
    Fail,
    /// It goes on this much later.
    Delay(Duration),
    /// The request is passed on twice; after the effect: the answer is said twice.
    Twice,
    /// It continues when the test releases it.
    Hold(Hold),
}

/// One that waits at a point.
#[derive(Clone)]
pub struct Hold {
    met: watch::Sender<bool>,
    free: watch::Sender<bool>,
}

impl Default for Hold {
    fn default() -> Self {
        Self { met: watch::Sender::new(false), free: watch::Sender::new(false) }
    }
}

impl Hold {
    /// Waits until a request reaches the injection point; false if none does within `limit`.
    pub async fn is_met_within(&self, limit: Duration) -> bool {
        let mut met = self.met.subscribe();
        tokio::time::timeout(limit, met.wait_for(|met| *met)).await.is_ok()
    }

    pub fn release(&self) {
        self.free.send_replace(true);
    }

    async fn wait(&self) {
        self.met.send_replace(true);
        let mut free = self.free.subscribe();
        let _ = free.wait_for(|free| *free).await;
    }
}

/// How one side speaks.
#[derive(Clone, Copy)]
enum Speech {
    Http,
    Lines,
}

/// One planned fault: the injection point, and the fault injected there.
struct Plan {
    /// `None`: whatever is said.
    name: Option<String>,
    /// Only where this is named; empty: everywhere.
    about: String,
    moment: Moment,
    deed: Deed,
    once: bool,
}

#[derive(Default)]
struct Book {
    plans: Vec<Plan>,
    /// How often each thing was said, whatever became of it.
    said: BTreeMap<String, usize>,
}

/// What a relay does once a point lets it go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    On,
    Drop,
    Fail,
    Twice,
}

/// The points of one relay; clones share them.
#[derive(Clone, Default)]
pub struct Points(Arc<Mutex<Book>>);

impl Points {
    /// At the next meeting of this point, and no later one.
    pub fn once(&self, name: &str, moment: Moment, deed: Deed) {
        self.plan(Plan { name: Some(name.to_owned()), about: String::new(), moment, deed, once: true });
    }

    /// At every meeting of this point, until [`Points::clear`].
    pub fn always(&self, name: &str, moment: Moment, deed: Deed) {
        self.plan(Plan { name: Some(name.to_owned()), about: String::new(), moment, deed, once: false });
    }

    /// Whenever `about` is named, whatever is said, until [`Points::clear`].
    pub fn always_about(&self, about: &str, moment: Moment, deed: Deed) {
        self.plan(Plan { name: None, about: about.to_owned(), moment, deed, once: false });
    }

    /// Nothing happens to anybody any more. Who is held stays so.
    pub fn clear(&self) {
        self.book().plans.clear();
    }

    /// How often `name` was said.
    pub fn said(&self, name: &str) -> usize {
        self.book().said.get(name).copied().unwrap_or_default()
    }

    fn plan(&self, plan: Plan) {
        self.book().plans.push(plan);
    }

    async fn meet(&self, name: &str, text: &str, moment: Moment) -> Verdict {
        let deed = {
            let mut book = self.book();
            if moment == Moment::Before {
                *book.said.entry(name.to_owned()).or_default() += 1;
            }
            let here = |plan: &Plan| {
                plan.moment == moment
                    && plan.name.as_deref().is_none_or(|wanted| wanted == name)
                    && text.contains(&plan.about)
            };
            match book.plans.iter().position(here) {
                Some(index) if book.plans[index].once => Some(book.plans.remove(index).deed),
                Some(index) => Some(book.plans[index].deed.clone()),
                None => None,
            }
        };
        match deed {
            None => Verdict::On,
            Some(Deed::Drop) => Verdict::Drop,
            Some(Deed::Fail) => Verdict::Fail,
            Some(Deed::Twice) => Verdict::Twice,
            Some(Deed::Delay(time)) => {
                // Real time: the delay is the injected fault.
                tokio::time::sleep(time).await;
                Verdict::On
            }
            Some(Deed::Hold(hold)) => {
                hold.wait().await;
                Verdict::On
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A relay that stands there until it is dropped.
pub struct FaultProxy {
    pub points: Points,
    pub socket: PathBuf,
    stands: tokio::task::JoinHandle<()>,
}

impl FaultProxy {
    /// A proxy that listens on `socket` and forwards to the Engine on `to`.
    pub fn the_engine(socket: &Path, to: &Path) -> Self {
        Self::stand(socket, to, Speech::Http)
    }

    /// A proxy that listens on `socket` and forwards to the provisioner on `to`.
    pub fn the_provisioner(socket: &Path, to: &Path) -> Self {
        Self::stand(socket, to, Speech::Lines)
    }

    fn stand(socket: &Path, to: &Path, speech: Speech) -> Self {
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let (points, to) = (Points::default(), to.to_owned());
        let stands = tokio::spawn({
            let points = points.clone();
            async move {
                // Dropped with the proxy task: that aborts all proxied connections.
                let mut talks = JoinSet::new();
                loop {
                    tokio::select! {
                        Some(_) = talks.join_next() => {}
                        Ok((stream, _)) = listener.accept() => {
                            let (points, to) = (points.clone(), to.clone());
                            talks.spawn(async move { relay(speech, stream, to, points).await });
                        }
                    }
                }
            }
        });
        Self { points, socket: socket.to_owned(), stands }
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.stands.abort();
    }
}

/// One conversation. When either side hangs up or says what cannot be understood, both connections end.
async fn relay(speech: Speech, stream: UnixStream, to: PathBuf, points: Points) {
    let _ = match speech {
        Speech::Http => http::relay(stream, &to, &points).await,
        Speech::Lines => lines::relay(stream, &to, &points).await,
    };
}
