//! Admission of a call to a model: a hold by the bytes of its body first, by a token count where that does not fit, and
//! with a shorter answer where the call accepts one.
//!
//! The usual call fits by its bytes and needs no request of its own. A token count costs nothing, and gives no caller
//! more than `/v1/messages/count_tokens` would: the caller is authenticated and holds a request slot by then. It is
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
use super::upstream_path::UpstreamPath;
use super::{QuotaProxy, RoutedCall};
use crate::quota::{Hold, Refusal};

/// The largest response to a token count, in bytes; it is one number.
const MAX_COUNT_RESPONSE: usize = 4096;

/// The result of an admission.
pub(super) struct ModelAdmission {
    pub hold: Hold,
    /// The output limit in tokens, where it had to be lowered.
    pub shortened_to: Option<u64>,
}

impl ModelAdmission {
    fn unchanged(hold: Hold) -> Self {
        Self { hold, shortened_to: None }
    }
}

/// The response to a token count, which both providers write alike.
#[derive(Deserialize)]
struct TokenCount {
    // Zero is no plausible count of a call's input; it would make the bound worthless.
    input_tokens: NonZeroU64,
}

impl QuotaProxy {
    /// Holds the most that `call` can cost, which is `demand` by the bytes of its body.
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
            // On the heap, because the state of this rare path would otherwise enlarge the future of every call.
            Err(refusal) if refusal.leaves_room() => Box::pin(self.make_fit(call, clamp, refusal)).await,
            Err(refusal) => Err(ProxyError::Refused(refusal)),
        }
    }

    /// Admits a call that its bytes would refuse, by a smaller bound or a shorter answer.
    async fn make_fit(&self, call: &RoutedCall, clamp: Clamp, refusal: Refusal) -> Result<ModelAdmission, ProxyError> {
        let body = &call.incoming.body.bytes;
        // The demand was moved into the refused attempt. Reading the body again is rare, and cheaper than a copy each
        // time.
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

    /// The demand of `call` by a token count of its input. `None` where no count is possible, or where it could not
    /// make the call fit, even with an answer of `shortest` tokens.
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

    /// Asks the provider for the number of input tokens. `None` when it does not answer in time.
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
