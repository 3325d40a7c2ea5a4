//! `berth instance set` and `berth instance upgrade`: other terms, and containers as they would be made now.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use futures_util::StreamExt as _;

use crate::app::App;
use crate::control_socket;
use crate::instances::{Instance, InstanceSettings, UpgradeOutcome};

/// How often an upgrade is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// How long one is waited for; it goes on without that.
const PATIENCE: Duration = Duration::from_secs(120);

/// What `set` changes; the rest stays.
#[derive(Args)]
pub(super) struct Changes {
    /// One of BERTH_IMAGES. Reaches the instance when it next starts.
    #[arg(long)]
    image: Option<String>,
    /// standard, or one of BERTH_SIZES. Reaches the instance when it next starts.
    #[arg(long)]
    size: Option<String>,
    /// Idle seconds after which it is frozen; "size" for its size's own.
    #[arg(long, value_parser = seconds)]
    freeze_after: Option<OwnOrSize>,
    /// Idle seconds after which it is stopped; "size" for its size's own.
    #[arg(long, value_parser = seconds)]
    stop_after: Option<OwnOrSize>,
    /// Idle seconds after which its container is removed and its volume kept; "size" for its size's own.
    #[arg(long, value_parser = seconds)]
    remove_after: Option<OwnOrSize>,
}

#[derive(Clone, Copy)]
struct OwnOrSize(Option<Duration>);

fn seconds(text: &str) -> Result<OwnOrSize, String> {
    match text {
        "size" => Ok(OwnOrSize(None)),
        text => text
            .parse()
            .map(|seconds| OwnOrSize(Some(Duration::from_secs(seconds))))
            .map_err(|_| "a whole number of seconds, or \"size\"".into()),
    }
}

pub(super) async fn set(app: &App, instance: &Arc<Instance>, changes: Changes) -> anyhow::Result<()> {
    let now = instance.terms();
    let terms = InstanceSettings {
        image: changes.image.unwrap_or(now.image),
        size: changes.size.unwrap_or(now.size),
        freeze_after: changes.freeze_after.map_or(now.freeze_after, |own| own.0),
        stop_after: changes.stop_after.map_or(now.stop_after, |own| own.0),
        remove_after: changes.remove_after.map_or(now.remove_after, |own| own.0),
    };
    app.instances.set_terms(instance, terms).await?;
    control_socket::nudge(&app.config.control_socket(), instance.id).await?;
    println!("{} has other terms now. Image and size reach it when it next starts.", instance.handle);
    Ok(())
}

/// Upgrades one and waits for it.
pub(super) async fn upgrade(app: &App, instance: &Arc<Instance>) -> anyhow::Result<()> {
    println!("{}", upgraded(app, instance).await?);
    Ok(())
}

/// Upgrades all that are awake or frozen, `at_once` at a time; the others are when they next start.
pub(super) async fn upgrade_all(app: &App, at_once: usize) -> anyhow::Result<()> {
    let outdated = app.instances.outdated().await.context("asking the provisioner what is there")?;
    println!("{} to upgrade; those that are stopped are upgraded when they next start.", outdated.len());
    let mut upgrades = futures_util::stream::iter(outdated)
        .map(|instance| async move {
            let handle = instance.handle.clone();
            upgraded(app, &instance).await.unwrap_or_else(|error| format!("{handle}: {error:#}"))
        })
        .buffer_unordered(at_once);
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
            "{handle}: noted. Berth does not run here just now; it happens when it starts (berth serve)."
        ));
    }
    let came_true = async {
        loop {
            match app.instances.renewed(instance.id, asked_at).await? {
                UpgradeOutcome::UnderWay => tokio::time::sleep(LOOK).await,
                over => return anyhow::Ok(over),
            }
        }
    };
    Ok(match tokio::time::timeout(PATIENCE, came_true).await {
        Err(_) => format!("{handle}: still in use. It is upgraded as soon as nothing is in flight."),
        Ok(over) => match over? {
            UpgradeOutcome::Done => format!("{handle} is upgraded."),
            UpgradeOutcome::RolledBack => {
                format!(
                    "{handle}: the newer container did not become ready, and the one before is back. The platform's log says why."
                )
            }
            UpgradeOutcome::Failed(why) => format!("{handle}: {why}"),
            UpgradeOutcome::UnderWay => unreachable!("it was waited for"),
        },
    })
}
