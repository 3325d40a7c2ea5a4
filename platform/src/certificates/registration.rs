//! Registration of certificates: the usage of the weekly budget, as a metric and as a finding of `doctor`.

use async_trait::async_trait;
use berth_ground::clock::Timestamp;

use super::{BudgetUsage, Certificates};
use crate::modules::{Finding, GaugeFamily, Module};

/// Share of the weekly budget above which `doctor` recommends a wildcard certificate, in percent.
const WARN_PERCENT: u64 = 80;
pub const DOCTOR_SUBJECT: &str = "new addresses";

#[async_trait]
impl Module for Certificates {
    fn gauges(&self, _: Timestamp) -> Vec<GaugeFamily> {
        let help = "First certificates in a week: spent, with the names that wait for theirs, and the limit";
        let samples = self.usage().into_iter().flat_map(|usage| {
            [("spent", usage.names), ("limit", usage.weekly.get())].map(|(of, names)| (of, i64::from(names)))
        });
        vec![GaugeFamily::by_label("certificates_a_week", help, "of", samples)]
    }

    async fn doctor_findings(&self) -> Vec<Finding> {
        self.usage().map(finding).into_iter().collect()
    }
}

fn finding(BudgetUsage { names, weekly }: BudgetUsage) -> Finding {
    let wildcard = "One wildcard certificate is good for all: BERTH_DNS_PROVIDER, see caddy/Caddyfile.wildcard.";
    let waiting = names.saturating_sub(weekly.get());
    let spent = format!("{} of {weekly} first certificates of this week are spent", names - waiting);
    let share = u64::from(names) * 100 / u64::from(weekly.get());
    if share >= 100 {
        Finding::warning(DOCTOR_SUBJECT, format!("{spent}, and {waiting} names wait for a certificate. {wildcard}"))
    } else if share >= WARN_PERCENT {
        Finding::warning(DOCTOR_SUBJECT, format!("{spent}; beyond that, new names wait. {wildcard}"))
    } else {
        Finding::fine(DOCTOR_SUBJECT, spent)
    }
}
