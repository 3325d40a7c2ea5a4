//! Calls under the caller's own key (bring your own key): their cost is not bounded and holds nothing of the budget.
//!
//! They behave as at the provider itself: errors are the provider's own, and a stream ends when the client disconnects.

use axum::response::Response;
use berth_providers::Provider;
use berth_providers::request::{self, OwnKeyRequest};

use super::incoming::agent;
use super::proxy_error::ProxyError;
use super::quota_proxy::QuotaProxy;
use super::routed_call::{Delivery, RoutedCall};
use crate::own_keys::CallKey;
use crate::quota::OwnKeyCall;

impl QuotaProxy {
    pub(super) async fn call_under_own_key(
        &self,
        mut call: RoutedCall,
        own_key: CallKey,
    ) -> Result<Response, ProxyError> {
        let incoming = &call.incoming;
        let OwnKeyRequest { model, stream, body_with_usage } =
            request::own_key::read(call.api, &incoming.body.bytes).map_err(ProxyError::InvalidRequest)?;
        let own_call = OwnKeyCall {
            account: incoming.instance.account,
            instance: incoming.instance.id,
            agent: agent(&incoming.headers),
            provider: Provider::named(&call.provider),
            model,
        };
        // The hold has no amount. It counts as one of the account's concurrent calls, and becomes a receipt of zero.
        let hold = self.app.quota.admit_under_own_key(own_call).await.map_err(ProxyError::Refused)?;
        let delivery = if stream { Delivery::streamed(body_with_usage.as_ref()) } else { Delivery::WHOLE };
        call.replace_body(body_with_usage);
        let response = self.forward(call, Some(&own_key), hold, delivery).await?;
        own_key.note_status(response.status().as_u16());
        Ok(response)
    }
}
