//! The state that all calls of the quota proxy share.

use berth_providers::ServiceTier;

use super::drain::DrainLimit;
use super::intake_limits::IntakeLimits;
use super::providers::ProviderDirectory;
use crate::app::App;

/// The state of the proxy's handlers.
pub(super) struct QuotaProxy {
    pub(super) app: App,
    pub(super) providers: ProviderDirectory,
    pub(super) intake: IntakeLimits,
    pub(super) drains: DrainLimit,
    /// The service tier of an OpenAI call that does not name one.
    pub(super) default_tier: ServiceTier,
}
