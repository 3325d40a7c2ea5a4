//! Admission of a call to a model: reserves (holds) an upper bound of its cost. The bound comes from the bytes of the
//! body; where that does not fit, from a token count; where the call accepts it, from a shorter answer.
//!
//! The usual call fits by its bytes and needs no request of its own. A token count is free, and gives a caller no more
//! than `/v1/messages/count_tokens` would: the caller is authenticated and holds a request slot by then. The count is
//! skipped when not even the smallest count could make the call fit, so a spent budget is refused at once.

use std::num::NonZeroU64;

use axum::http::Method;
use berth_providers::request::token_count::TokenCountRequest;
use berth_providers::{Demand, InputBound, Provider};
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::clamp::Clamp;
use super::incoming::key_affinity;
use super::provider_call::{ProviderCall, ResponseMode};
use super::providers::ProviderRequest;
use super::proxy_error::ProxyError;
use super::quota_proxy::QuotaProxy;
use super::routed_call::RoutedCall;
use super::upstream_path::UpstreamPath;
use crate::quota::{Hold, Refusal};

/// The largest response to a token count, in bytes; it is one number.
const MAX_COUNT_RESPONSE: usize = 4096;

/// The result of an admission.
pub(super) struct ModelAdmission {
    pub hold: Hold,
    /// The lowered output limit in tokens. `None` where it was not lowered.
    pub shortened_to: Option<u64>,
}

impl ModelAdmission {
    fn unchanged(hold: Hold) -> Self {
        Self { hold, shortened_to: None }
    }
}

/// The response to a token count, the same for both providers.
#[derive(Deserialize)]
struct TokenCount {
    // Zero is not a plausible count of an input; it would make the bound worthless.
    input_tokens: NonZeroU64,
}

impl QuotaProxy {
    /// Holds the upper bound of the cost of `call`. `demand` is that bound by the bytes of its body.
    ///
    /// # Errors
    /// `Refused`, `RefusedAtAnyLength`.
    pub(super) async fn admit_model(
        &self,
        call: &RoutedCall,
        demand: Demand,
        clamp: Clamp,
    ) -> Result<ModelAdmission, ProxyError> {
        match self.app.quota.admit(call.incoming.with_demand(demand)).await {
            Ok(hold) => Ok(ModelAdmission::unchanged(hold)),
            // Boxed, because the state of this rare path would otherwise enlarge the future of every call.
            Err(refusal) if refusal.leaves_room() => Box::pin(self.make_fit(call, clamp, refusal)).await,
            Err(refusal) => Err(ProxyError::Refused(refusal)),
        }
    }

    /// Retries an admission that was refused by the bytes, with a smaller bound or a shorter answer.
    async fn make_fit(&self, call: &RoutedCall, clamp: Clamp, refusal: Refusal) -> Result<ModelAdmission, ProxyError> {
        let body = &call.incoming.body.bytes;
        // The demand was moved into the refused attempt. Parsing the body again is rare, and cheaper than a copy for
        // each call.
        let Ok(request) = call.api.read(body, self.default_tier) else { return Err(ProxyError::Refused(refusal)) };
        let by_bytes = Demand { provider: Provider::named(&call.provider), ..request.demand };
        let is_shorter = |least: &u64| by_bytes.max_output_tokens.is_none_or(|asked| asked > *least);
        let shortest = match clamp {
            Clamp::MaxTokens => call.api.shortest_answer(body).filter(is_shorter),
            Clamp::Off => None,
        };
        match (self.demand_by_count(call, &by_bytes, shortest).await, shortest) {
            (by_count, Some(shortest)) => {
                let call = call.incoming.with_demand(by_count.unwrap_or(by_bytes));
                let admitted = self.app.quota.admit_shortened(call, shortest).await;
                let (hold, shortened_to) = admitted.map_err(|refusal| {
                    if refusal.leaves_room() {
                        ProxyError::RefusedAtAnyLength(refusal)
                    } else {
                        ProxyError::Refused(refusal)
                    }
                })?;
                Ok(ModelAdmission { hold, shortened_to })
            }
            (Some(by_count), None) => {
                let admitted = self.app.quota.admit(call.incoming.with_demand(by_count)).await;
                admitted.map(ModelAdmission::unchanged).map_err(ProxyError::Refused)
            }
            (None, None) => Err(ProxyError::Refused(refusal)),
        }
    }

    /// The demand of `call` by a token count of its input. `None` where no count is possible, or where no count could
    /// make the call fit, not even with an answer of `shortest` tokens.
    async fn demand_by_count(&self, call: &RoutedCall, demand: &Demand, shortest: Option<u64>) -> Option<Demand> {
        // Other providers behind the same wire format may count differently, or not at all.
        if ![Provider::ANTHROPIC, Provider::OPENAI].contains(&demand.provider) {
            return None;
        }
        let by_bytes = if let InputBound::Tokens(bytes) = demand.input { bytes } else { u64::MAX };
        let with_input = |tokens: u64| Demand { input: InputBound::Counted(tokens.min(by_bytes)), ..demand.clone() };
        let count_request = call.api.token_count_request(&call.incoming.body.bytes)?;
        let smallest = Demand {
            max_output_tokens: shortest.or(demand.max_output_tokens),
            ..with_input(count_request.upper_bound(1))
        };
        if !self.app.quota.admission.has_room_for(call.incoming.instance.account, &smallest).await {
            return None;
        }
        let tokens = self.count_tokens(call, &count_request).await;
        if tokens.is_none() {
            tracing::warn!(provider = call.provider, "the input of a call was not counted; its bytes decide");
        }
        Some(with_input(count_request.upper_bound(tokens?)))
    }

    /// Requests the number of input tokens from the provider. `None` when the provider does not answer in time.
    async fn count_tokens(&self, call: &RoutedCall, count_request: &TokenCountRequest) -> Option<u64> {
        // The counting request is a second body beside the call's own, and counts towards the memory limit too.
        let _memory = self.intake.reserve_memory(count_request.body.len()).ok()?;
        let path = UpstreamPath::trusted(count_request.path.to_owned(), call.path.query().map(str::to_owned));
        let request = ProviderRequest {
            provider: &call.provider,
            own_key: None,
            method: Method::POST,
            path: &path,
            headers: call.incoming.headers.clone(),
            body: count_request.body.clone(),
            key_affinity: key_affinity(&call.incoming.instance),
        };
        let request = self.providers.prepare(request).ok()?;
        tokio::time::timeout(self.providers.timeouts().count, send_count(request)).await.ok()?
    }
}

async fn send_count(request: ProviderCall) -> Option<u64> {
    let response = request.send(ResponseMode::Whole).await.ok().filter(|response| response.status().is_success())?;
    let (mut body, mut chunks) = (BytesMut::new(), response.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.ok().filter(|chunk| body.len() + chunk.len() <= MAX_COUNT_RESPONSE)?;
        body.extend_from_slice(&chunk);
    }
    let count: TokenCount = serde_json::from_slice(&body).ok()?;
    Some(count.input_tokens.get())
}
