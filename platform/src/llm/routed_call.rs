//! A received call with its destination, and the way of its response.

use berth_providers::Api;

use super::incoming::IncomingCall;
use super::provider_call::ResponseMode;
use super::upstream_path::UpstreamPath;

/// A received call with its destination.
pub(super) struct RoutedCall {
    pub(super) api: Api,
    /// The provider's name.
    pub(super) provider: String,
    pub(super) path: UpstreamPath,
    pub(super) incoming: IncomingCall,
}

impl RoutedCall {
    /// Replaces the body if `body` is given.
    pub(super) fn replace_body(&mut self, body: Option<Vec<u8>>) {
        if let Some(body) = body {
            self.incoming.body.bytes = body.into();
        }
    }
}

/// How a response is delivered to the client.
#[derive(Clone, Copy)]
pub(super) struct Delivery {
    pub(super) mode: ResponseMode,
    /// Whether the usage figures of the stream are removed.
    pub(super) hide_usage: bool,
}

impl Delivery {
    pub(super) const WHOLE: Self = Self { mode: ResponseMode::Whole, hide_usage: false };

    pub(super) fn streamed(body_with_usage: Option<&Vec<u8>>) -> Self {
        Self { mode: ResponseMode::Streamed, hide_usage: body_with_usage.is_some() }
    }
}
