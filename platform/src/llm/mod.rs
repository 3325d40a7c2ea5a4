//! The quota proxy: a metering reverse proxy that forwards AI calls of instances to model providers, in the providers'
//! own wire formats.
//!
//! A call is sent under a key of the platform and within its account's budget, or under the account's own key and
//! outside the budget (`own_key`). A call that cannot be metered is not forwarded. The proxy listens on each bridge's
//! gateway address, where only instances reach it.

mod admission;
mod billed_stream;
mod clamp;
mod clients;
mod detached;
mod drain;
mod error_shape;
mod forwarded_headers;
mod forwarding;
mod incoming;
mod intake_limits;
mod key_pool;
mod metered;
mod own_key;
mod provider_call;
mod provider_endpoint;
mod providers;
mod proxy_error;
mod quota_proxy;
mod rate_limit_headers;
mod refusal_shape;
mod routed_call;
mod timeouts;
mod upstream_path;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, get, on, post};
use berth_providers::request::ModelRequest;
use berth_providers::{Api, Provider, ServiceTier, WireFormat};

use crate::app::App;
use crate::own_keys::CallKey;
use crate::quota::Hold;
use admission::ModelAdmission;
use drain::DrainLimit;
use forwarding::AdmittedCall;
use incoming::{IncomingCall, key_affinity};
use intake_limits::{BufferedBody, IntakeLimits};
use provider_call::ResponseMode;
use providers::{ProviderDirectory, ProviderRequest};
use proxy_error::ProxyError;
use quota_proxy::QuotaProxy;
use routed_call::{Delivery, RoutedCall};
pub use timeouts::ProxyTimeouts;
use upstream_path::UpstreamPath;

/// The proxy's routes. They have to be served with `server::serve`, which provides the peer address and sets
/// TCP_NODELAY.
pub fn router(app: App) -> Router {
    router_with(app, ProxyTimeouts::default())
}

/// The proxy's routes with other timeouts, for tests.
pub fn router_with(app: App, timeouts: ProxyTimeouts) -> Router {
    let providers = ProviderDirectory::new(&app.config, app.clock.clone(), timeouts);
    let intake = IntakeLimits::new(app.config.limits.calls_at_once);
    let drains = DrainLimit::new(timeouts.most_drains, timeouts.drain);
    let default_tier = ServiceTier::of_openai(&app.config.openai_tier).unwrap_or_default();
    Router::new()
        .route("/{provider}/v1/messages", models(Api::Messages))
        .route("/{provider}/v1/messages/count_tokens", free(MethodFilter::POST, Some(WireFormat::Anthropic)))
        .route("/{provider}/v1/chat/completions", models(Api::ChatCompletions))
        .route("/{provider}/v1/responses", models(Api::Responses))
        .route("/{provider}/v1/responses/input_tokens", free(MethodFilter::POST, Some(WireFormat::Openai)))
        .route("/{provider}/v1/embeddings", models(Api::Embeddings))
        .route("/{provider}/v1/models", free(MethodFilter::GET, None))
        .route("/{provider}/v1/models/{id}", free(MethodFilter::GET, None))
        .route("/{provider}/api/hello", get(hello))
        // Any method: the operator's file lists the allowed ones.
        .route("/metered/{name}/{*path}", any(metered_call))
        // Axum's own responses have no body, and an SDK needs an error in its wire format.
        .fallback(not_found)
        .method_not_allowed_fallback(not_found)
        .with_state(Arc::new(QuotaProxy { app, providers, intake, drains, default_tier }))
}

/// A route of calls to models; they have a price.
fn models(api: Api) -> MethodRouter<Arc<QuotaProxy>> {
    post(
        async move |State(proxy): State<Arc<QuotaProxy>>,
                    ConnectInfo(peer): ConnectInfo<SocketAddr>,
                    request: Request| {
            let answer = proxy.call_model(api, peer, request).await;
            proxy.respond(api.wire_format(), answer)
        },
    )
}

/// The route of calls to metered APIs.
async fn metered_call(
    State(proxy): State<Arc<QuotaProxy>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let answer = proxy.call_metered(peer, request).await;
    proxy.respond(WireFormat::Openai, answer)
}

/// A route of calls that providers do not charge for. `only` is the wire format that has the path, `None` for both.
fn free(method: MethodFilter, only: Option<WireFormat>) -> MethodRouter<Arc<QuotaProxy>> {
    on(
        method,
        async move |State(proxy): State<Arc<QuotaProxy>>,
                    ConnectInfo(peer): ConnectInfo<SocketAddr>,
                    request: Request| {
            let format = proxy.wire_format_at(request.uri().path());
            let answer = proxy.call_free(only, peer, request).await;
            proxy.respond(format, answer)
        },
    )
}

/// Claude Code sends this request before its first call, to open the connection early.
async fn hello() -> StatusCode {
    StatusCode::OK
}

async fn not_found(State(proxy): State<Arc<QuotaProxy>>, request: Request) -> Response {
    let path = format!("{} {}", request.method(), request.uri().path());
    proxy.respond(proxy.wire_format_at(request.uri().path()), Err(ProxyError::NoSuchPath { path }))
}

impl QuotaProxy {
    async fn call_model(&self, api: Api, peer: SocketAddr, request: Request) -> Result<Response, ProxyError> {
        // Checked before the body is read: the route matches any provider, also one with another wire format.
        let provider = self.provider_at(request.uri().path(), |format| format == api.wire_format())?;
        let incoming = self.receive(peer, request).await?;
        let path = UpstreamPath::from_uri(&incoming.uri)?;
        let call = RoutedCall { api, provider, path, incoming };
        match self.app.own_keys.call_key(call.incoming.instance.account, &call.provider) {
            Some(own_key) => self.call_under_own_key(call, own_key).await,
            None => self.call_within_budget(call).await,
        }
    }

    async fn call_within_budget(&self, mut call: RoutedCall) -> Result<Response, ProxyError> {
        let body = &call.incoming.body.bytes;
        let ModelRequest { mut demand, stream, body_with_usage } =
            call.api.read(body, self.default_tier).map_err(ProxyError::InvalidRequest)?;
        // The parser knows only the wire format. A configured provider has its own name and prices.
        demand.provider = Provider::named(&call.provider);
        let clamp = clamp::requested(&call.incoming.headers).map_err(ProxyError::InvalidRequest)?;
        let ModelAdmission { hold, shortened_to } = self.admit_model(&call, demand, clamp).await?;
        if !hold.takes_long_context() {
            forwarded_headers::remove_long_context(&mut call.incoming.headers);
        }
        let delivery = if stream { Delivery::streamed(body_with_usage.as_ref()) } else { Delivery::WHOLE };
        call.replace_body(body_with_usage);
        // Order: after the replacement, because both edit the same body.
        if let Some(tokens) = shortened_to {
            let body = clamp::body(call.api, &call.incoming.body.bytes, tokens);
            call.incoming.body.bytes = body.map_err(ProxyError::InvalidRequest)?;
        }
        let mut response = self.forward(call, None, hold, delivery).await?;
        clamp::add_header(response.headers_mut(), shortened_to);
        Ok(response)
    }

    async fn call_metered(&self, peer: SocketAddr, request: Request) -> Result<Response, ProxyError> {
        let not_found = || ProxyError::NoSuchPath { path: format!("{} {}", request.method(), request.uri().path()) };
        let provider = request.uri().path().split('/').nth(2).unwrap_or_default().to_owned();
        let config = Arc::clone(&self.app.config);
        let metered_api = config.providers.metered.get(&provider).ok_or_else(not_found)?;
        let incoming = self.receive(peer, request).await?;
        let (priced, path) = metered::find(metered_api, &incoming.method, &incoming.uri)?;
        let sent = metered::charged_bytes(priced, &incoming.body.bytes);
        let demand = metered::demand(&provider, priced, sent);
        let hold = self.app.quota.admit(incoming.with_demand(demand)).await.map_err(ProxyError::Refused)?;
        let call = RoutedCall { api: Api::Metered { sent }, provider, path, incoming };
        self.forward(call, None, hold, Delivery::WHOLE).await
    }

    /// Sends an admitted call and passes its response on, with the account's rate limits.
    async fn forward(
        &self,
        call: RoutedCall,
        own_key: Option<&CallKey>,
        hold: Hold,
        delivery: Delivery,
    ) -> Result<Response, ProxyError> {
        let RoutedCall { api, provider, path, incoming } = call;
        let IncomingCall { instance, method, headers, body: BufferedBody { bytes: body, memory }, guards, .. } =
            incoming;
        let key_affinity = key_affinity(&instance);
        let request =
            ProviderRequest { provider: &provider, own_key, method, path: &path, headers, body, key_affinity };
        let request = self.providers.prepare(request)?;
        let drains = if own_key.is_some() { DrainLimit::none() } else { self.drains.clone() };
        // Read now: the call takes the hold along.
        let limits = hold.rates();
        let hide_usage = delivery.hide_usage;
        let call = AdmittedCall { api, request, hold, instance, guards, memory, drains, hide_usage };
        let mut response = match delivery.mode {
            ResponseMode::Streamed => forwarding::forward_stream(call).await,
            ResponseMode::Whole => forwarding::forward_whole(call).await,
        }?;
        let now = self.app.clock.now();
        rate_limit_headers::add(response.headers_mut(), api.wire_format(), limits, now);
        Ok(response)
    }

    async fn call_free(
        &self,
        only: Option<WireFormat>,
        peer: SocketAddr,
        request: Request,
    ) -> Result<Response, ProxyError> {
        let provider = self.provider_at(request.uri().path(), |format| only.is_none_or(|only| format == only))?;
        let IncomingCall { instance, method, uri, headers, body: BufferedBody { bytes: body, memory }, guards } =
            self.receive(peer, request).await?;
        let path = UpstreamPath::from_uri(&uri)?;
        let own_key = self.app.own_keys.call_key(instance.account, &provider);
        let (own, key_affinity) = (own_key.as_ref(), key_affinity(&instance));
        let request =
            ProviderRequest { provider: &provider, own_key: own, method, path: &path, headers, body, key_affinity };
        let request = self.providers.prepare(request)?;
        let sent = request.send(ResponseMode::Whole).await;
        // The body was sent or never will be: either way its memory is free.
        drop(memory);
        let response = sent?;
        if let Some(own_key) = own_key {
            own_key.note_status(response.status().as_u16());
        }
        Ok(forwarding::pass_through(&request, response, guards))
    }

    /// The model provider named by the first segment of `path`, if its wire format is accepted.
    fn provider_at(&self, path: &str, is_accepted: impl FnOnce(WireFormat) -> bool) -> Result<String, ProxyError> {
        let name = first_segment(path);
        match self.providers.wire_format(name) {
            Some(format) if is_accepted(format) => Ok(name.to_owned()),
            _ => Err(ProxyError::NoSuchPath { path: path.to_owned() }),
        }
    }

    /// The wire format for an error response at `path`.
    fn wire_format_at(&self, path: &str) -> WireFormat {
        self.providers.wire_format(first_segment(path)).unwrap_or(WireFormat::Anthropic)
    }

    fn respond(&self, format: WireFormat, answer: Result<Response, ProxyError>) -> Response {
        answer.unwrap_or_else(|error| error.respond(format, self.app.clock.uuid()))
    }
}

fn first_segment(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}
