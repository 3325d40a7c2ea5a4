//! `berth instance set`: image, size and how soon an instance sleeps.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use crate::app::App;
use crate::control_socket;
use crate::instances::{Instance, InstanceSettings};

/// What `set` changes; the rest stays.
#[derive(Args)]
pub(super) struct SettingArgs {
    /// One of BERTH_IMAGES. Reaches the instance when it next starts.
    #[arg(long)]
    image: Option<String>,
    /// standard, or one of BERTH_SIZES. Reaches the instance when it next starts.
    #[arg(long)]
    size: Option<String>,
    /// Idle seconds after which it is frozen; "size" for its size's own.
    #[arg(long, value_parser = seconds)]
    freeze_after: Option<SettingOverride>,
    /// Idle seconds after which it is stopped; "size" for its size's own.
    #[arg(long, value_parser = seconds)]
    stop_after: Option<SettingOverride>,
    /// Idle seconds after which its container is removed and its volume kept; "size" for its size's own.
    #[arg(long, value_parser = seconds)]
    remove_after: Option<SettingOverride>,
}

#[derive(Clone, Copy)]
struct SettingOverride(Option<Duration>);

fn seconds(text: &str) -> Result<SettingOverride, String> {
    match text {
        "size" => Ok(SettingOverride(None)),
        text => text
            .parse()
            .map(|seconds| SettingOverride(Some(Duration::from_secs(seconds))))
            .map_err(|_| "a whole number of seconds, or \"size\"".into()),
    }
}

pub(super) async fn set(app: &App, instance: &Arc<Instance>, changes: SettingArgs) -> anyhow::Result<()> {
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
