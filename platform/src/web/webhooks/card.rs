//! The dashboard's card about webhooks and alarms.

use berth_ground::error::Result;

use super::delivery_view::DeliveryRow;
use crate::app::App;
use crate::instances::Instance;
use crate::webhooks::{DeliveryState, InboxCounts};

/// The card of webhooks on the dashboard.
pub struct WebhooksCard {
    pub paths: usize,
    pub alarms: usize,
    pub counts: InboxCounts,
    pub latest: Vec<DeliveryRow>,
}

/// The card of one instance.
pub async fn webhooks_card(app: &App, instance: &Instance) -> Result<WebhooksCard> {
    let (dead_letters, delivered, alarms) = tokio::try_join!(
        app.webhooks.deliveries(instance.id, DeliveryState::DeadLetter, 3),
        app.webhooks.deliveries(instance.id, DeliveryState::Delivered, 3),
        app.alarms.of(instance.id),
    )?;
    let latest = dead_letters.iter().chain(&delivered).take(4).map(Into::into).collect();
    let (paths, counts) = (app.webhooks.paths(instance.id).len(), app.webhooks.counts(instance.id));
    Ok(WebhooksCard { paths, alarms: alarms.len(), counts, latest })
}
