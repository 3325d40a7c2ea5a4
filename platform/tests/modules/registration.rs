//! The list of registered modules: what each contributes is told apart from what the others do.

use std::collections::HashSet;

use berth::modules::Dispatch;

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

#[tokio::test]
async fn gauges_have_unique_names() {
    let platform = TestModules::on(sqlite().await).await;
    let gauges = platform.modules.gauges(platform.clock.now());
    let names: HashSet<&str> = gauges.iter().map(|family| family.name).collect();
    assert_eq!(names.len(), gauges.len());
}
