//! The quota proxy: model providers' own wire shapes, under the platform's keys, within each account's allowance.
//!
//! Served on each bridge's gateway address, where only instances reach it. What cannot be metered is not forwarded.

pub mod alarms;
mod budget;
mod caller;
pub mod control;
mod doorway;
mod drain;
mod hide_usage;
mod problem;
mod relay;
mod request;
mod splice;
mod target;
mod upstream;
mod usage;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;

use crate::app::App;
use crate::instances::{Instance, Work, WorkInFlight};
use crate::quota::{Call, Provider};
use caller::caller;
use doorway::{Doorway, Place, Taken};
use drain::Drains;
use problem::Problem;
use relay::Admitted;
use request::{Asked, Unacceptable};
use target::Target;
use upstream::Upstreams;

/// How long a stream that its client left is read on for its figures.
const DRAIN_WITHIN: Duration = Duration::from_secs(30);
/// How many such streams there may be. Each has a hold, so an account has no more of them than calls at once.
const MOST_DRAINS: usize = 256;

/// Characters of an agent's name that are kept; the names in use are UUIDs.
const LONGEST_AGENT: usize = 64;

#[derive(Clone)]
struct Door {
    app: App,
    upstreams: Upstreams,
    doorway: Doorway,
    drains: Drains,
}

/// The proxy's routes. Serve them with `http_server::serve`, which says who the peer is and delays no token.
pub fn router(app: App) -> Router {
    router_draining(app, MOST_DRAINS, DRAIN_WITHIN)
}

/// The same with other limits for streams that their clients left: how many at once, and how long each. For tests.
pub fn router_draining(app: App, most: usize, within: Duration) -> Router {
    let upstreams = Upstreams::new(&app.config);
    let doorway = Doorway::new(app.config.limits.calls_at_once);
    let drains = Drains::new(most, within);
    Router::new()
        .route("/anthropic/v1/messages", post(messages))
        .route("/anthropic/v1/messages/count_tokens", post(free))
        .route("/anthropic/v1/models", get(free))
        .route("/anthropic/v1/models/{id}", get(free))
        .route("/openai/v1/chat/completions", post(chat_completions))
        .route("/openai/v1/models", get(free))
        .route("/openai/v1/models/{id}", get(free))
        .route("/budget", get(budget::show))
        .fallback(elsewhere)
        .method_not_allowed_fallback(elsewhere)
        .with_state(Door { app, upstreams, doorway, drains })
}

async fn messages(State(door): State<Door>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let answer = door.metered(Provider::Anthropic, peer, request, request::anthropic::read).await;
    door.shown(Provider::Anthropic, answer)
}

async fn chat_completions(
    State(door): State<Door>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let answer = door.metered(Provider::Openai, peer, request, request::openai::read).await;
    door.shown(Provider::Openai, answer)
}

/// Calls that the providers do not charge.
async fn free(State(door): State<Door>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request) -> Response {
    let provider = provider_of(request.uri().path());
    let answer = door.free(provider, peer, request).await;
    door.shown(provider, answer)
}

async fn elsewhere(State(door): State<Door>, request: Request) -> Response {
    let path = format!("{} {}", request.method(), request.uri().path());
    door.shown(provider_of(request.uri().path()), Err(Problem::NoSuchPath { path }))
}

impl Door {
    async fn metered(
        &self,
        provider: Provider,
        peer: SocketAddr,
        request: Request,
        read: impl Fn(&[u8]) -> Result<Asked, Unacceptable>,
    ) -> Result<Response, Problem> {
        let Arrived { instance, target, mut headers, taken: Taken { body, room }, inside, .. } =
            self.arrive(peer, request).await?;
        let Asked { demand, stream, add_usage } = read(&body).map_err(Problem::Unacceptable)?;
        let call = Call { account: instance.account, instance: instance.id, agent: agent(&headers), demand };
        let hold = self.app.quota.admit(call).await.map_err(Problem::Refused)?;
        if !hold.takes_long_context() {
            upstream::hold_back_long_context(&mut headers);
        }
        let asking = if add_usage { splice::with_include_usage(&body) } else { None };
        let body = asking.map_or(body, Bytes::from);
        let request = self.upstreams.call(provider, Method::POST, &target, &headers, body)?;
        let drains = self.drains.clone();
        let call = Admitted { provider, request, hold, instance, inside, room, drains, hide_usage: add_usage };
        if stream { relay::streamed(call).await } else { relay::whole(call).await }
    }

    async fn free(&self, provider: Provider, peer: SocketAddr, request: Request) -> Result<Response, Problem> {
        let Arrived { method, target, headers, taken: Taken { body, room }, inside, .. } =
            self.arrive(peer, request).await?;
        let request = self.upstreams.call(provider, method, &target, &headers, body)?;
        let sent = request.send().await;
        drop(room);
        match sent {
            Ok(answer) => Ok(relay::passed_on(answer, inside)),
            Err(_) => Err(Problem::UpstreamUnreachable),
        }
    }

    /// Asks who calls, then takes the body in.
    async fn arrive(&self, peer: SocketAddr, request: Request) -> Result<Arrived, Problem> {
        let (parts, body) = request.into_parts();
        let instance = caller(&self.app, &parts.headers, peer)?;
        let inside = (instance.begin_work(Work::AiCall), self.doorway.enter(instance.id)?);
        let target = Target::read(&parts.uri)?;
        if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let message = "content-encoding: compressed request bodies are not accepted here.".into();
            return Err(Problem::Unacceptable(Unacceptable { field: None, message }));
        }
        let taken = self.doorway.take_in(&parts.headers, body).await?;
        Ok(Arrived { instance, method: parts.method, target, headers: parts.headers, taken, inside })
    }

    fn shown(&self, provider: Provider, answer: Result<Response, Problem>) -> Response {
        answer.unwrap_or_else(|problem| problem.respond(provider, self.app.clock.uuid()))
    }
}

/// Which agent calls, as Claude Code says it: a sub-agent by its own name, otherwise its session; empty where nobody says.
fn agent(headers: &HeaderMap) -> String {
    let named = |name| headers.get(name).and_then(|value| value.to_str().ok()).filter(|name| !name.is_empty());
    let agent = named("x-claude-code-agent-id").or_else(|| named("x-claude-code-session-id")).unwrap_or_default();
    agent.chars().take(LONGEST_AGENT).collect()
}

/// A request of a known instance, taken in whole.
struct Arrived {
    instance: Arc<Instance>,
    method: Method,
    target: Target,
    headers: HeaderMap,
    taken: Taken,
    inside: (WorkInFlight, Place),
}

fn provider_of(path: &str) -> Provider {
    if path.starts_with("/openai/") { Provider::Openai } else { Provider::Anthropic }
}
