//! The list of registered modules: what each contributes is told apart from what the others do.

use std::collections::{BTreeSet, HashSet};

use berth::modules::Dispatch;
use berth::ops::PURGE_JOBS;

use berth_testing::{TestModules, sqlite};

#[tokio::test]
async fn scheduled_work_has_unique_names_and_only_alarms_run_without_a_lease() {
    let platform = TestModules::on(sqlite().await).await;
    let works = platform.modules.scheduled_work();
    let names: HashSet<&str> = works.iter().map(|work| work.name).collect();
    assert_eq!(names.len(), works.len(), "a row of the jobs table names one work");
    let unleased = works.iter().filter(|work| work.dispatch == Dispatch::EachTick).map(|work| work.name);
    assert_eq!(unleased.collect::<Vec<_>>(), ["ring_alarms"]);
}

/// Rows of the jobs table refer to these names, also rows that another version has enqueued: a name that changes here
/// loses the jobs that were due at the upgrade.
#[tokio::test]
async fn the_names_that_the_jobs_table_stores_never_change() {
    let platform = TestModules::on(sqlite().await).await;
    let works = platform.modules.scheduled_work();
    let leased = works.iter().filter(|work| work.dispatch == Dispatch::Leased).map(|work| work.name);
    let names: BTreeSet<&str> = leased.chain([PURGE_JOBS]).collect();
    let stored = ["forget_receipts", "look_at_domains", "purge_expired", "purge_jobs", "see_off", "tell_alerts"];
    assert_eq!(names, stored.into());
}

#[tokio::test]
async fn gauges_have_unique_names() {
    let platform = TestModules::on(sqlite().await).await;
    let gauges = platform.modules.gauges(platform.clock.now());
    let names: HashSet<&str> = gauges.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), gauges.len());
}
