//! What was measured, as a table for people and as lines of JSON for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;

/// Figures in the order in which they came up.
#[derive(Default)]
pub struct Figures {
    series: Vec<Series>,
    shared: Vec<Shared>,
    counts: Vec<(&'static str, f64, &'static str)>,
}

/// A figure that several have.
struct Shared {
    name: &'static str,
    unit: &'static str,
    /// The first is what the others are compared with. Each has a value for every round.
    peers: Vec<(&'static str, Vec<f64>)>,
}

struct Series {
    name: &'static str,
    /// The series it stands beside.
    peer: Option<&'static str>,
    took_ms: Vec<f64>,
}

const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];

impl Figures {
    pub fn add(&mut self, name: &'static str, took: Duration) {
        self.push(name, took, None);
    }

    /// Adds to a series that is compared with another.
    pub fn add_beside(&mut self, name: &'static str, took: Duration, peer: &'static str) {
        self.push(name, took, Some(peer));
    }

    /// One round of a figure that several have; the first one is the baseline of the others.
    pub fn of(&mut self, name: &'static str, peer: &'static str, value: f64, unit: &'static str) {
        let at = self.shared.iter().position(|shared| shared.name == name).unwrap_or_else(|| {
            self.shared.push(Shared { name, unit, peers: Vec::new() });
            self.shared.len() - 1
        });
        let peers = &mut self.shared[at].peers;
        match peers.iter_mut().find(|(known, _)| *known == peer) {
            Some((_, rounds)) => rounds.push(value),
            None => peers.push((peer, vec![value])),
        }
    }

    /// The middle of the rounds that `peer` had.
    pub fn middle(&self, name: &str, peer: &str) -> Option<f64> {
        self.shared.iter().find(|shared| shared.name == name)?.middle(peer)
    }

    /// How many times what `other` has `peer` has.
    pub fn beside(&self, name: &str, peer: &str, other: &str) -> Option<f64> {
        self.shared.iter().find(|shared| shared.name == name)?.beside(peer, other)
    }

    /// A figure that was measured once.
    pub fn only(&self, name: &str) -> Option<f64> {
        self.counts.iter().find(|(known, ..)| *known == name).map(|(_, value, _)| *value)
    }

    /// A figure that is measured once.
    pub fn once(&mut self, name: &'static str, value: f64, unit: &'static str) {
        self.counts.push((name, value, unit));
    }

    /// The middle of a series, in milliseconds; zero when there is none.
    pub fn median_ms(&self, name: &str) -> f64 {
        self.percentile(name, 0.5).unwrap_or_default()
    }

    /// One line of JSON a figure.
    pub fn lines(&self) -> String {
        let mut text = String::new();
        for series in &self.series {
            for (word, share) in PERCENTILES {
                let (value, ratio) = (series.percentile(share), self.ratio(series, share));
                let peer = series.peer.map(|peer| format!("{peer}.{word}_ms"));
                let name = format!("{}.{word}_ms", series.name);
                let line = json!({ "name": name, "value": rounded(value), "unit": "ms", "peer": peer, "ratio": ratio.map(rounded) });
                let _ = writeln!(text, "{line}");
            }
        }
        for shared in &self.shared {
            for (peer, rounds) in &shared.peers {
                let (value, ratio) = (middle(rounds), shared.beside(peer, shared.peers[0].0));
                let line = json!({ "name": shared.name, "value": rounded(value), "unit": shared.unit, "peer": peer, "ratio": ratio.map(rounded) });
                let _ = writeln!(text, "{line}");
            }
        }
        for (name, value, unit) in &self.counts {
            let line = json!({ "name": name, "value": rounded(*value), "unit": unit, "peer": null, "ratio": null });
            let _ = writeln!(text, "{line}");
        }
        text
    }

    pub fn table(&self) -> String {
        let mut text = String::new();
        if !self.series.is_empty() {
            let _ = writeln!(text, "{:<26}{:>10}{:>10}{:>10}{:>6}   beside", "milliseconds", "p50", "p99", "max", "n");
        }
        for series in &self.series {
            let [p50, p99, max] = PERCENTILES.map(|(_, share)| series.percentile(share));
            let beside = match (series.peer, self.ratio(series, 0.5)) {
                (Some(peer), Some(ratio)) => {
                    format!("   {ratio:.2} x {peer}, {:+.2} ms", p50 - self.percentile(peer, 0.5).unwrap_or_default())
                }
                _ => String::new(),
            };
            let count = series.took_ms.len();
            let _ = writeln!(text, "{:<26}{p50:>10.2}{p99:>10.2}{max:>10.2}{count:>6}{beside}", series.name);
        }
        for shared in &self.shared {
            shared.write_rows(&mut text);
        }
        for (name, value, unit) in &self.counts {
            let _ = writeln!(text, "{name:<26}{:>10} {unit}", rounded(*value));
        }
        text
    }

    fn push(&mut self, name: &'static str, took: Duration, peer: Option<&'static str>) {
        let took_ms = took.as_secs_f64() * 1000.0;
        match self.series.iter_mut().find(|series| series.name == name) {
            Some(series) => series.took_ms.push(took_ms),
            None => self.series.push(Series { name, peer, took_ms: vec![took_ms] }),
        }
    }

    fn percentile(&self, name: &str, share: f64) -> Option<f64> {
        self.series.iter().find(|series| series.name == name).map(|series| series.percentile(share))
    }

    /// How many times the same percentile of its peer it is.
    fn ratio(&self, series: &Series, share: f64) -> Option<f64> {
        Some(series.percentile(share) / self.percentile(series.peer?, share)?)
    }
}

impl Shared {
    fn middle(&self, peer: &str) -> Option<f64> {
        self.peers.iter().find(|(known, _)| *known == peer).map(|(_, rounds)| middle(rounds))
    }

    fn beside(&self, peer: &str, other: &str) -> Option<f64> {
        Some(self.middle(peer)? / self.middle(other)?)
    }

    /// A head and a row for each, beside the first two: no proxy, and the first of the proxies.
    fn write_rows(&self, text: &mut String) {
        let others: Vec<&str> = self.peers.iter().map(|(peer, _)| *peer).take(2.min(self.peers.len() - 1)).collect();
        let _ = write!(text, "{:<26}{:>16}", self.name, self.unit);
        for other in &others {
            let _ = write!(text, "{:>12}", format!("x {other}"));
        }
        for (peer, rounds) in &self.peers {
            let _ = write!(text, "\n  {peer:<24}{:>16.1}", middle(rounds));
            for other in &others {
                let _ = write!(text, "{:>12.3}", self.beside(peer, other).unwrap_or_default());
            }
        }
        text.push('\n');
    }
}

impl Series {
    /// The smallest value that at least `share` of all do not exceed.
    fn percentile(&self, share: f64) -> f64 {
        let mut sorted = self.took_ms.clone();
        sorted.sort_unstable_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }
}

/// The one in the middle, of an even number the lower.
fn middle(rounds: &[f64]) -> f64 {
    let mut sorted = rounds.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted[(sorted.len() - 1) / 2]
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
