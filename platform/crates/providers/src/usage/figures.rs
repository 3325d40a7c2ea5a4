//! Parts of figures that several APIs write alike.

use crate::ServiceTier;

/// The tier that OpenAI served a call in, by its response; older models report none. `None` for a tier that is not
/// known here.
pub(super) fn served_in(service_tier: Option<&str>) -> Option<ServiceTier> {
    service_tier.map_or(Some(ServiceTier::Standard), ServiceTier::of_openai)
}

pub(super) fn length(text: Option<&str>) -> u64 {
    text.map_or(0, |text| u64::try_from(text.len()).unwrap_or(u64::MAX / 4))
}
