//! `berth instance upgrade`: replaces outdated containers.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;

use crate::app::App;
use crate::control_socket;
use crate::instances::{Instance, UpgradeOutcome};

/// How often the state of an upgrade is read.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long the command waits for one upgrade, which continues afterwards.
const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// Upgrades one instance and waits for the result.
pub(super) async fn upgrade(app: &App, instance: &Arc<Instance>) -> anyhow::Result<()> {
    println!("{}", upgraded(app, instance).await?);
    Ok(())
}

/// Upgrades all outdated instances that are awake or frozen, `parallel` at a time. A stopped one gets its new container
/// when it next starts.
pub(super) async fn upgrade_all(app: &App, parallel: usize) -> anyhow::Result<()> {
    let outdated = app.instances.outdated().await.context("asking the provisioner for the containers")?;
    println!("{} instances to upgrade. Stopped instances are upgraded when they next start.", outdated.len());
    let mut upgrades = futures_util::stream::iter(outdated)
        .map(|instance| async move {
            let handle = instance.handle.clone();
            upgraded(app, &instance).await.unwrap_or_else(|error| format!("{handle}: {error:#}"))
        })
        .buffer_unordered(parallel);
    while let Some(sentence) = upgrades.next().await {
        println!("{sentence}");
    }
    Ok(())
}

async fn upgraded(app: &App, instance: &Arc<Instance>) -> anyhow::Result<String> {
    let handle = &instance.handle;
    let asked_at = app.clock.now();
    app.instances.upgrade(instance).await?;
    if !control_socket::nudge(&app.config.control_socket(), instance.id).await? {
        return Ok(format!(
            "{handle}: recorded. The platform is not running; the upgrade takes place when it starts (berth serve)."
        ));
    }
    let came_true = async {
        loop {
            match app.instances.renewed(instance.id, asked_at).await? {
                UpgradeOutcome::UnderWay => tokio::time::sleep(POLL_INTERVAL).await,
                over => return anyhow::Ok(over),
            }
        }
    };
    Ok(match tokio::time::timeout(WAIT_TIMEOUT, came_true).await {
        Err(_) => format!("{handle}: still in use. The upgrade takes place as soon as no work is in flight."),
        Ok(over) => match over? {
            UpgradeOutcome::Done => format!("{handle} is upgraded."),
            UpgradeOutcome::RolledBack => {
                format!(
                    "{handle}: the new container did not become ready, so the previous one was put back. See the platform's log."
                )
            }
            UpgradeOutcome::Failed(why) => format!("{handle}: {why}"),
            UpgradeOutcome::UnderWay => unreachable!("it was waited for"),
        },
    })
}
