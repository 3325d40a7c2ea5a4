//! Figures for Prometheus. Reading them changes nothing and wakes nothing.

use std::sync::Arc;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::certificates::BudgetUsage;
use crate::clock::Timestamp;
use crate::instances::Instances;
use crate::mailbox::Mailbox;

/// The counters that doors and rooms add to. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    edge: Family<EdgeLabels, Counter>,
    wake: Histogram,
    instances: Family<FactLabels, Gauge>,
    stuck: Gauge,
    letters: Family<LetterLabels, Gauge>,
    asked: Family<AskLabels, Counter>,
    certificates: Family<BudgetLabels, Gauge>,
}

/// What became of a request to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum EdgeOutcome {
    Forwarded,
    /// For the mailbox.
    Letter,
    Waiting,
    Refused,
}

/// What Caddy was told that asked whether a name may have a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum AskOutcome {
    Allowed,
    /// No name that an instance of ours could have.
    NotOurs,
    /// Such a name, and nobody has it.
    Nobody,
    /// Somebody has it who is suspended or leaves.
    Closed,
    /// The week's budget is spent.
    Queued,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskLabels {
    outcome: AskOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    of: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EdgeLabels {
    outcome: EdgeOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LetterLabels {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FactLabels {
    fact: String,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("berth");
        let (edge, instances, letters) = (Family::default(), Family::default(), Family::default());
        // 1 ms to about 65 s: a thaw at one end, the limit for a held request at the other.
        let wake = Histogram::new(exponential_buckets(0.001, 2.0, 17));
        let stuck = Gauge::default();
        registry.register("edge_requests", "Requests to instances, by what became of them", Family::clone(&edge));
        let waited = "How long a held request waited for its instance";
        registry.register_with_unit("wake_wait", waited, Unit::Seconds, wake.clone());
        registry.register("instances", "Instances, by what was last seen of them", Family::clone(&instances));
        registry.register("instances_stuck", "Instances on their way for more than five minutes", Gauge::clone(&stuck));
        registry.register("letters", "Letters in the mailbox, by how they stand", Family::clone(&letters));
        let (asked, certificates) = (Family::default(), Family::default());
        let asks = "Questions whether a name may have a certificate, by the answer";
        registry.register("certificate_asks", asks, Family::clone(&asked));
        let budget = "First certificates in a week: spent, with the names that wait for theirs, and the limit";
        registry.register("certificates_a_week", budget, Family::clone(&certificates));
        Self { registry: Arc::new(registry), edge, wake, instances, stuck, letters, asked, certificates }
    }

    /// Counts a request to an instance.
    pub fn count_edge(&self, outcome: EdgeOutcome) {
        self.edge.get_or_create(&EdgeLabels { outcome }).inc();
    }

    /// Counts an answer to Caddy.
    pub fn count_ask(&self, outcome: AskOutcome) {
        self.asked.get_or_create(&AskLabels { outcome }).inc();
    }

    /// Notes how much of the week's certificates is spent.
    pub fn note_certificates(&self, spent: BudgetUsage) {
        for (of, names) in [("spent", spent.names), ("limit", spent.weekly.get())] {
            self.certificates.get_or_create(&BudgetLabels { of }).set(i64::from(names));
        }
    }

    /// Notes how long a request waited for its instance to wake, in seconds.
    pub fn observe_wake(&self, seconds: f64) {
        self.wake.observe(seconds);
    }
}

/// The figures as Prometheus reads them (OpenMetrics text).
#[must_use]
pub fn render(metrics: &Metrics, instances: &Instances, mailbox: &Mailbox, now: Timestamp) -> String {
    metrics.instances.clear();
    let mut stuck = 0;
    for status in instances.all().iter().map(|instance| instance.status()) {
        metrics.instances.get_or_create(&FactLabels { fact: status.fact.word() }).inc();
        stuck += i64::from(status.is_stuck(now));
    }
    metrics.stuck.set(stuck);
    let counts = mailbox.counts_of_all();
    for (state, letters) in [("waiting", counts.waiting), ("failed", counts.failed)] {
        metrics.letters.get_or_create(&LetterLabels { state }).set(i64::try_from(letters).unwrap_or(i64::MAX));
    }
    let mut text = String::new();
    encode(&mut text, &metrics.registry).expect("writing into a String cannot fail");
    text
}
