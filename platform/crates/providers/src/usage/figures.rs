//! Parts of figures that several APIs write alike.

use crate::ServiceTier;

/// The tier in which OpenAI reports to have served a call; older models report none. `None` for an unknown tier.
pub(super) fn served_in(service_tier: Option<&str>) -> Option<ServiceTier> {
    service_tier.map_or(Some(ServiceTier::Standard), ServiceTier::of_openai)
}

pub(super) fn length(text: Option<&str>) -> u64 {
    text.map_or(0, |text| u64::try_from(text.len()).unwrap_or(u64::MAX / 4))
}
