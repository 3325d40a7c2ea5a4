//! Prometheus metrics: counters, a histogram and gauges in the OpenMetrics text format. A scrape changes nothing and
//! wakes no instance.

use std::sync::Arc;

use berth_ground::clock::Timestamp;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeLabelValue};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::modules::{GaugeFamily, Modules};

/// Prefix of every metric's name.
const PREFIX: &str = "berth";

/// The counters and histograms that HTTP layers and modules update. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    edge: Family<EdgeLabels, Counter>,
    wake: Histogram,
    asked: Family<AskLabels, Counter>,
}

/// The outcome of a request to an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum EdgeOutcome {
    /// Passed on to the instance.
    Forwarded,
    /// Stored by the webhook intake.
    Webhook,
    /// Answered with the waiting page, because the instance sleeps.
    Waiting,
    /// Refused by the edge.
    Refused,
}

/// The answer to Caddy's question whether a name may have a certificate (on-demand TLS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum AskOutcome {
    Allowed,
    /// The name cannot belong to an instance of this installation.
    NotOurs,
    /// A possible name that no instance serves.
    Nobody,
    /// The account with this name is suspended or being deleted.
    Closed,
    /// The weekly budget of certificates is used up; the name is queued.
    Queued,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AskLabels {
    outcome: AskOutcome,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EdgeLabels {
    outcome: EdgeOutcome,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let edge = Family::default();
        // 1 ms to about 65 s: a thaw at one end, the limit for a held request at the other.
        let wake = Histogram::new(exponential_buckets(0.001, 2.0, 17));
        registry.register("edge_requests", "Requests to instances, by what became of them", Family::clone(&edge));
        let waited = "How long a held request waited for its instance";
        registry.register_with_unit("wake_wait", waited, Unit::Seconds, wake.clone());
        let asked = Family::default();
        let asks = "Questions whether a name may have a certificate, by the answer";
        registry.register("certificate_asks", asks, Family::clone(&asked));
        Self { registry: Arc::new(registry), edge, wake, asked }
    }

    /// Counts a request to an instance.
    pub fn count_edge(&self, outcome: EdgeOutcome) {
        self.edge.get_or_create(&EdgeLabels { outcome }).inc();
    }

    /// Counts an answer to Caddy.
    pub fn count_ask(&self, outcome: AskOutcome) {
        self.asked.get_or_create(&AskLabels { outcome }).inc();
    }

    /// Records how long a request waited for its instance to wake, in seconds.
    pub fn observe_wake(&self, seconds: f64) {
        self.wake.observe(seconds);
    }
}

/// Renders all metrics as OpenMetrics text: the counters, and the gauges of all modules.
#[must_use]
pub fn render(metrics: &Metrics, modules: &Modules, now: Timestamp) -> String {
    // A registry for this scrape only. The gauges are recomputed each time, so no time series of a deleted instance or
    // a past state stays behind.
    let mut scraped = Registry::with_prefix(PREFIX);
    scraped.register_collector(Box::new(Gauges(modules.gauges(now))));
    let mut text = String::new();
    encode_registry(&mut text, &metrics.registry)
        .and_then(|()| encode_registry(&mut text, &scraped))
        .and_then(|()| encode_eof(&mut text))
        .expect("writing into a String cannot fail");
    text
}

/// The gauges of one scrape.
#[derive(Debug)]
struct Gauges(Vec<GaugeFamily>);

impl Collector for Gauges {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        // A family without samples is left out, as the registry does with its own families.
        for family in self.0.iter().filter(|family| !family.samples.is_empty()) {
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, MetricType::Gauge)?;
            for sample in &family.samples {
                match &sample.label {
                    Some(label) => {
                        metric.encode_family(&[*label])?.encode_gauge(&sample.value)?;
                    }
                    None => metric.encode_gauge(&sample.value)?,
                }
            }
        }
        Ok(())
    }
}
