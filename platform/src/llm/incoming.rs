//! Intake of calls: authentication, intake limits, and reading of the body, in this order.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::http::{HeaderMap, Method, Uri, header};
use berth_providers::Demand;
use berth_providers::request::RequestError;

use super::forwarding::CallGuards;
use super::intake_limits::BufferedBody;
use super::proxy_error::ProxyError;
use super::quota_proxy::QuotaProxy;
use crate::http::instance_token::authenticate;
use crate::instances::{Instance, Work};
use crate::quota::BudgetCall;

/// Longest name of an agent that is kept, in characters; the names in use are UUIDs.
const MAX_AGENT: usize = 64;

/// A request of an authenticated instance.
pub(super) struct IncomingCall {
    pub instance: Arc<Instance>,
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: BufferedBody,
    pub guards: CallGuards,
}

impl QuotaProxy {
    /// Authenticates the caller, then reads the body. An unknown caller occupies neither a slot nor memory.
    pub(super) async fn receive(&self, peer: SocketAddr, request: Request) -> Result<IncomingCall, ProxyError> {
        let (parts, body) = request.into_parts();
        let instance = authenticate(&self.app.instances, &parts.headers, peer)?;
        let guards = CallGuards { work: instance.begin_work(Work::AiCall), slot: self.intake.claim_slot(instance.id)? };
        // The bytes of the text bound the cost, and a compressed body hides them.
        if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let message = "content-encoding: compressed request bodies are not accepted here.".into();
            return Err(ProxyError::InvalidRequest(RequestError { field: None, message }));
        }
        // Last, because it takes longest: everything that can refuse the request has been checked.
        let body = self.intake.read_body(&parts.headers, body).await?;
        Ok(IncomingCall { instance, method: parts.method, uri: parts.uri, headers: parts.headers, body, guards })
    }
}

impl IncomingCall {
    /// The call in the form that the quota admits.
    pub fn with_demand(&self, demand: Demand) -> BudgetCall {
        let Self { instance, headers, .. } = self;
        BudgetCall { account: instance.account, instance: instance.id, agent: agent(headers), demand }
    }
}

/// The calling agent, as Claude Code names it: the id of a sub-agent, otherwise of the session. Empty without such a
/// header.
pub(super) fn agent(headers: &HeaderMap) -> String {
    let named = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|name| !name.is_empty());
    let agent = named("x-claude-code-agent-id").or_else(|| named("x-claude-code-session-id")).unwrap_or_default();
    agent.chars().take(MAX_AGENT).collect()
}

/// The hash by which an instance keeps using the same one of the platform's keys.
#[expect(clippy::cast_possible_truncation, reason = "any part of a random id is as good as another")]
pub(super) fn key_affinity(instance: &Instance) -> u64 {
    instance.id.0.as_u128() as u64
}
