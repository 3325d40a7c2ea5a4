//! Gauges: metrics that a module computes from memory for each scrape.

/// A metric with its samples, one for each value of its label.
#[derive(Clone, Debug)]
pub struct GaugeFamily {
    /// Without the prefix `berth_`, which every metric gets.
    pub name: &'static str,
    pub help: &'static str,
    pub samples: Vec<GaugeSample>,
}

#[derive(Clone, Debug)]
pub struct GaugeSample {
    /// Key and value; `None` for a metric with a single sample. The value is static, which bounds the cardinality of
    /// the metric: no handle or id can become a label.
    pub label: Option<(&'static str, &'static str)>,
    pub value: i64,
}

impl GaugeFamily {
    /// A metric without a label.
    #[must_use]
    pub fn single(name: &'static str, help: &'static str, value: i64) -> Self {
        Self { name, help, samples: vec![GaugeSample { label: None, value }] }
    }

    /// A metric with one sample for each value of the label `key`.
    #[must_use]
    pub fn by_label(
        name: &'static str,
        help: &'static str,
        key: &'static str,
        samples: impl IntoIterator<Item = (&'static str, i64)>,
    ) -> Self {
        let samples = samples.into_iter().map(|(label, value)| GaugeSample { label: Some((key, label)), value });
        Self { name, help, samples: samples.collect() }
    }
}
