//! RAII guards of work in flight: an instance counts as working while one of them lives.

use std::sync::Arc;

use super::Instance;
use super::work::Work;

impl Instance {
    /// Begins work that keeps the instance awake until the guard is dropped.
    pub fn begin_work(self: &Arc<Self>, work: Work) -> WorkInFlight {
        WorkInFlight::begin(Arc::clone(self), work)
    }

    /// Opens a connection that keeps the instance awake only while bytes move on it.
    #[must_use]
    pub fn open_flow(self: &Arc<Self>, work: Work) -> TrafficFlow {
        TrafficFlow::open(Arc::clone(self), work)
    }
}

/// A guard that keeps an instance awake until it is dropped.
#[must_use = "dropping it says that the work is over"]
pub struct WorkInFlight {
    instance: Arc<Instance>,
    work: Work,
}

impl WorkInFlight {
    fn begin(instance: Arc<Instance>, work: Work) -> Self {
        debug_assert!(work.holds(), "{work:?} counts when something moves: open a flow");
        instance.work.begin(work, instance.now());
        Self { instance, work }
    }

    /// Whether the work is passive: it does not count as activity when it ends.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        matches!(self.work, Work::Probe | Work::Webhook)
    }
}

impl Drop for WorkInFlight {
    fn drop(&mut self) {
        if !self.is_probe() {
            // Before `end`: otherwise the reconciler could see an instance with neither open work nor recent activity,
            // and freeze it.
            self.instance.work.moved(self.work, self.instance.now());
        }
        self.instance.work.end(self.work);
        // While work holds the instance, the reconciler sets no timer; the idle timeout starts now.
        self.instance.look_when_idle();
    }
}

/// A connection on which bytes may move. An open connection without traffic does not keep its instance awake.
pub struct TrafficFlow {
    instance: Arc<Instance>,
    work: Work,
}

impl TrafficFlow {
    fn open(instance: Arc<Instance>, work: Work) -> Self {
        instance.work.begin(work, instance.now());
        Self { instance, work }
    }

    /// Records that bytes moved. Returns `false` when the instance sleeps: bytes drained from buffers do not count as
    /// its work, and the caller has to wake the instance before it transfers more.
    pub fn moved(&self) -> bool {
        let awake = self.instance.is_up();
        if awake {
            self.instance.work.moved(self.work, self.instance.now());
        }
        awake
    }
}

impl Drop for TrafficFlow {
    fn drop(&mut self) {
        self.instance.work.end(self.work);
    }
}
