//! What the quota proxy is to reach.

use super::aim::{Aim, at_least, at_most};
use super::streams::STREAMS;

pub const AIMS: [Aim; 8] = [
    at_least("calls a second, beside LiteLLM", 40.0, |f| f.beside("quota.rps", "berth", "litellm")),
    at_least("calls a second, beside ungoverned", 0.7, |f| f.beside("quota.rps", "berth", "berth_ungoverned")),
    at_most("microseconds added to a call alone, p50", 150.0, |f| f.middle("quota.added_p50_us", "berth")),
    at_most("microseconds added to a call alone, p99", 1_000.0, |f| f.middle("quota.added_p99_us", "berth")),
    at_least("streams at once that came whole", STREAMS as f64, |f| f.middle("quota.streams_lossless", "berth")),
    at_most("MiB before the first call", 40.0, |f| f.middle("quota.idle_rss_mib", "berth")),
    at_least("calls admitted where seven fit", 7.0, |f| f.only("quota.overshoot_admitted")),
    at_most("nano-dollars served beyond the allowance", 0.0, |f| f.only("quota.overshoot_nanodollars")),
];
