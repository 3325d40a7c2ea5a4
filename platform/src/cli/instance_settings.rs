//! `berth instance set`: image, size and sleep timeouts of an instance.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::app::App;
use crate::control_socket;
use crate::instances::{Instance, InstanceSettings};

/// The settings to change; the others stay.
#[derive(Args)]
pub(super) struct SettingArgs {
    /// One of BERTH_IMAGES. Takes effect when the instance next starts.
    #[arg(long)]
    image: Option<String>,
    /// "standard" or one of BERTH_SIZES. Takes effect when the instance next starts.
    #[arg(long)]
    size: Option<String>,
    /// Idle seconds until the instance is frozen; "default" for the value of its size.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    freeze_after: Option<SettingOverride>,
    /// Idle seconds until the instance is stopped; "default" for the value of its size.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    stop_after: Option<SettingOverride>,
    /// Idle seconds until the container is removed and the volume kept; "default" for the value of its size.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    remove_after: Option<SettingOverride>,
}

#[derive(Clone, Copy)]
struct SettingOverride(Option<Duration>);

fn seconds(text: &str) -> Result<SettingOverride, String> {
    match text {
        "default" => Ok(SettingOverride(None)),
        text => text
            .parse()
            .map(|seconds| SettingOverride(Some(Duration::from_secs(seconds))))
            .map_err(|_| "write a whole number of seconds, or \"default\"".into()),
    }
}

pub(super) async fn set(app: &App, instance: &Arc<Instance>, changes: SettingArgs) -> anyhow::Result<()> {
    let now = instance.settings();
    let settings = InstanceSettings {
        image: changes.image.unwrap_or(now.image),
        size: changes.size.unwrap_or(now.size),
        freeze_after: changes.freeze_after.map_or(now.freeze_after, |own| own.0),
        stop_after: changes.stop_after.map_or(now.stop_after, |own| own.0),
        remove_after: changes.remove_after.map_or(now.remove_after, |own| own.0),
    };
    app.instances.set_settings(instance, settings).await?;
    control_socket::nudge(&app.config.control_socket(), instance.id).await?;
    println!("The settings of {} are changed. A new image or size takes effect when it next starts.", instance.handle);
    Ok(())
}
