//! Guards of work in flight: an instance counts as at work while one of them lives.

use std::sync::Arc;

use super::Instance;
use super::work::Work;

impl Instance {
    /// Says that work begins which keeps it awake while it lasts; it ends when the guard is dropped.
    pub fn begin_work(self: &Arc<Self>, work: Work) -> WorkInFlight {
        WorkInFlight::begin(Arc::clone(self), work)
    }

    /// Says that a connection is open on which bytes may move; only their moving keeps it awake.
    #[must_use]
    pub fn open_flow(self: &Arc<Self>, work: Work) -> TrafficFlow {
        TrafficFlow::open(Arc::clone(self), work)
    }
}

/// Keeps an instance awake while it lives.
#[must_use = "dropping it says that the work is over"]
pub struct WorkInFlight {
    instance: Arc<Instance>,
    work: Work,
}

impl WorkInFlight {
    fn begin(instance: Arc<Instance>, work: Work) -> Self {
        debug_assert!(work.holds(), "{work:?} counts when something moves: open a flow");
        if let Some(now) = instance.now() {
            instance.work.begin(work, now);
        }
        Self { instance, work }
    }

    /// Whether it leaves no trace.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        matches!(self.work, Work::Probe | Work::Webhook)
    }
}

impl Drop for WorkInFlight {
    fn drop(&mut self) {
        let Some(now) = self.instance.now() else { return };
        if !self.is_probe() {
            self.instance.work.moved(self.work, now);
        }
        self.instance.work.end(self.work);
        // The reconciler skips the idle check while work holds the instance; the idle timeout starts now.
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
        if let Some(now) = instance.now() {
            instance.work.begin(work, now);
        }
        Self { instance, work }
    }

    /// Records that bytes moved. Returns `false` when the instance sleeps: bytes drained from buffers do not count as
    /// its work, and the caller has to wake the instance before it transfers more.
    pub fn moved(&self) -> bool {
        let awake = self.instance.is_up();
        if awake && let Some(now) = self.instance.now() {
            self.instance.work.moved(self.work, now);
        }
        awake
    }
}

impl Drop for TrafficFlow {
    fn drop(&mut self) {
        self.instance.work.end(self.work);
    }
}
