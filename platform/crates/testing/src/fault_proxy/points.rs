//! Injection points of a fault proxy: the faults that are planned for each, and what a relay does at one.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

/// When an injection point applies: before the request is forwarded, or after its effect and before the answer is
/// forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultTiming {
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
    /// It goes on when the story lets it.
    Hold(FaultGate),
}

/// Holds requests at an injection point until a test releases them.
#[derive(Clone)]
pub struct FaultGate {
    met: watch::Sender<bool>,
    free: watch::Sender<bool>,
}

impl Default for FaultGate {
    fn default() -> Self {
        Self { met: watch::Sender::new(false), free: watch::Sender::new(false) }
    }
}

impl FaultGate {
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

/// The points of one relay; clones share them.
#[derive(Clone, Default)]
pub struct Points(Arc<Mutex<Book>>);

impl Points {
    /// At the next meeting of this point, and no later one.
    pub fn once(&self, name: &str, moment: FaultTiming, deed: Deed) {
        self.plan(Plan { name: Some(name.to_owned()), about: String::new(), moment, deed, once: true });
    }

    /// At every meeting of this point, until [`Points::clear`].
    pub fn always(&self, name: &str, moment: FaultTiming, deed: Deed) {
        self.plan(Plan { name: Some(name.to_owned()), about: String::new(), moment, deed, once: false });
    }

    /// Whenever `about` is named, whatever is said, until [`Points::clear`].
    pub fn always_about(&self, about: &str, moment: FaultTiming, deed: Deed) {
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

    pub(super) async fn meet(&self, name: &str, text: &str, moment: FaultTiming) -> RelayAction {
        let deed = {
            let mut book = self.book();
            if moment == FaultTiming::Before {
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
            None => RelayAction::On,
            Some(Deed::Drop) => RelayAction::Drop,
            Some(Deed::Fail) => RelayAction::Fail,
            Some(Deed::Twice) => RelayAction::Twice,
            Some(Deed::Delay(time)) => {
                // Real time: the delay is the injected fault.
                tokio::time::sleep(time).await;
                RelayAction::On
            }
            Some(Deed::Hold(hold)) => {
                hold.wait().await;
                RelayAction::On
            }
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a relay does once a point lets it go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RelayAction {
    On,
    Drop,
    Fail,
    Twice,
}

/// One planned fault: the injection point, and the fault injected there.
struct Plan {
    /// `None`: whatever is said.
    name: Option<String>,
    /// Only where this is named; empty: everywhere.
    about: String,
    moment: FaultTiming,
    deed: Deed,
    once: bool,
}

#[derive(Default)]
struct Book {
    plans: Vec<Plan>,
    /// How often each thing was said, whatever became of it.
    said: BTreeMap<String, usize>,
}
