//! The quota proxy: model providers' own wire shapes, under the platform's keys, within each account's allowance; or under
//! a key of the account's own, past the allowance (`own_key`).
//!
//! Served on each bridge's gateway address, where only instances reach it. What cannot be metered is not forwarded.

mod admission;
pub mod alarms;
mod api;
mod budget;
mod caller;
mod clamp;
mod clients;
pub mod control;
mod doorway;
mod drain;
mod hide_usage;
mod keys;
mod metered;
mod outgoing;
mod outliving;
mod own_key;
mod patience;
mod problem;
mod rates;
mod relay;
mod request;
mod splice;
mod target;
mod upstream;
mod usage;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::Response;
use axum::routing::{MethodFilter, MethodRouter, any, get, on, post};

use crate::app::App;
use crate::config::Speaks;
use crate::instances::{Instance, Work, WorkInFlight};
use crate::own_keys::CallKey;
use crate::quota::{Call, Demand, Hold, Provider, Tier};
use admission::Applicant;
pub use api::Api;
use caller::caller;
use doorway::{Doorway, Place, Taken};
use drain::Drains;
pub use hide_usage::HideUsage;
use outgoing::Answer;
pub use patience::Patience;
use problem::Problem;
use relay::Admitted;
use request::{Asked, Unacceptable};
use target::Target;
use upstream::Upstreams;
// What reads bytes of strangers; `platform/fuzz` has a target for each.
pub use usage::{StreamReader, of_whole};

/// Characters of an agent's name that are kept; the names in use are UUIDs.
const LONGEST_AGENT: usize = 64;

struct Door {
    app: App,
    upstreams: Upstreams,
    doorway: Doorway,
    drains: Drains,
    /// The tier of a call to OpenAI that names none.
    auto: Tier,
}

/// The proxy's routes. Serve them with `http_server::serve`, which says who the peer is and delays no token.
pub fn router(app: App) -> Router {
    router_with(app, Patience::default())
}

/// The same with other limits of time. For tests.
pub fn router_with(app: App, patience: Patience) -> Router {
    let upstreams = Upstreams::new(&app.config, app.clock.clone(), patience);
    let doorway = Doorway::new(app.config.limits.calls_at_once);
    let drains = Drains::new(patience.most_drains, patience.drain);
    let auto = Tier::of_openai(&app.config.openai_tier).unwrap_or_default();
    Router::new()
        .route("/{provider}/v1/messages", models(Api::Messages))
        .route("/{provider}/v1/messages/count_tokens", free(MethodFilter::POST, Some(Speaks::Anthropic)))
        .route("/{provider}/v1/chat/completions", models(Api::ChatCompletions))
        .route("/{provider}/v1/responses", models(Api::Responses))
        .route("/{provider}/v1/responses/input_tokens", free(MethodFilter::POST, Some(Speaks::Openai)))
        .route("/{provider}/v1/embeddings", models(Api::Embeddings))
        .route("/{provider}/v1/models", free(MethodFilter::GET, None))
        .route("/{provider}/v1/models/{id}", free(MethodFilter::GET, None))
        .route("/{provider}/api/hello", get(hello))
        .route("/metered/{name}/{*path}", any(priced))
        .route("/budget", get(budget::show))
        .fallback(elsewhere)
        .method_not_allowed_fallback(elsewhere)
        .with_state(Arc::new(Door { app, upstreams, doorway, drains, auto }))
}

/// Calls of models, which are charged.
fn models(api: Api) -> MethodRouter<Arc<Door>> {
    post(async move |State(door): State<Arc<Door>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
        let answer = door.models(api, peer, request).await;
        door.shown(api.speaks(), answer)
    })
}

/// Calls of other APIs that the operator gave a price.
async fn priced(
    State(door): State<Arc<Door>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    let answer = door.priced(peer, request).await;
    door.shown(Speaks::Openai, answer)
}

/// Calls that the providers do not charge: of one wire shape, or the same in both.
fn free(method: MethodFilter, only: Option<Speaks>) -> MethodRouter<Arc<Door>> {
    on(
        method,
        async move |State(door): State<Arc<Door>>, ConnectInfo(peer): ConnectInfo<SocketAddr>, request: Request| {
            let speaks = door.spoken_at(request.uri().path());
            let answer = door.free(only, peer, request).await;
            door.shown(speaks, answer)
        },
    )
}

/// What Claude Code asks before its first call, to warm the connection up.
async fn hello() -> StatusCode {
    StatusCode::OK
}

async fn elsewhere(State(door): State<Arc<Door>>, request: Request) -> Response {
    let path = format!("{} {}", request.method(), request.uri().path());
    door.shown(door.spoken_at(request.uri().path()), Err(Problem::NoSuchPath { path }))
}

impl Door {
    async fn models(&self, api: Api, peer: SocketAddr, request: Request) -> Result<Response, Problem> {
        let name = self.served(request.uri().path(), |speaks| speaks == api.speaks())?;
        let mut arrived = self.arrive(peer, request).await?;
        let target = Target::read(&arrived.uri)?;
        if let Some(own) = self.app.own_keys.call_key(arrived.instance.account, &name) {
            return self.under_own_key(api, (&name, own), target, arrived).await;
        }
        let Asked { mut demand, stream, asking_for_usage } =
            api.read(&arrived.taken.body, self.auto).map_err(Problem::Unacceptable)?;
        demand.provider = Provider::named(&name);
        let may_be_shorter = clamp::is_asked_for(&arrived.headers).map_err(Problem::Unacceptable)?;
        let applicant = Applicant { api, name: &name, target: &target, arrived: &arrived, may_be_shorter };
        let (hold, shortened_to) = self.admit_model(applicant, demand).await?;
        if !hold.takes_long_context() {
            upstream::hold_back_long_context(&mut arrived.headers);
        }
        let hide_usage = asking_for_usage.is_some();
        if let Some(body) = asking_for_usage {
            arrived.taken.body = body.into();
        }
        if let Some(tokens) = shortened_to {
            arrived.taken.body = clamp::body(api, &arrived.taken.body, tokens).map_err(Problem::Unacceptable)?;
        }
        let mut answer = self.relay(api, (&name, None), (target, arrived), hold, (stream, hide_usage)).await?;
        clamp::say(answer.headers_mut(), shortened_to);
        Ok(answer)
    }

    async fn priced(&self, peer: SocketAddr, request: Request) -> Result<Response, Problem> {
        let no_such = || Problem::NoSuchPath { path: format!("{} {}", request.method(), request.uri().path()) };
        let name = request.uri().path().split('/').nth(2).unwrap_or_default().to_owned();
        let config = Arc::clone(&self.app.config);
        let api = config.providers.metered.get(&name).ok_or_else(no_such)?;
        let arrived = self.arrive(peer, request).await?;
        let (call, target) = metered::find(api, &arrived.method, &arrived.uri)?;
        let sent = metered::charged_bytes(call, &arrived.taken.body);
        let demand = metered::demand(&name, call, sent);
        let hold = self.admit(&arrived, demand).await?;
        self.relay(Api::Metered { sent }, (&name, None), (target, arrived), hold, (false, false)).await
    }

    async fn admit(&self, arrived: &Arrived, demand: Demand) -> Result<Hold, Problem> {
        self.app.quota.admit(arrived.call(demand)).await.map_err(Problem::Refused)
    }

    async fn relay(
        &self,
        api: Api,
        (name, own): (&str, Option<&CallKey>),
        (target, arrived): (Target, Arrived),
        hold: Hold,
        (stream, hide_usage): (bool, bool),
    ) -> Result<Response, Problem> {
        let Arrived { instance, method, headers, taken: Taken { body, room }, inside, .. } = arrived;
        let request = self.upstreams.call((name, own), method, &target, headers, body)?.seated(seat(&instance));
        let (drains, (requests, tokens)) = (self.drains_of(own), hold.rates());
        let call = Admitted { api, request, hold, instance, inside, room, drains, hide_usage };
        let mut answer = if stream { relay::streamed(call).await } else { relay::whole(call).await }?;
        rates::add(answer.headers_mut(), api.speaks(), requests, tokens, self.app.clock.now());
        Ok(answer)
    }

    async fn free(&self, only: Option<Speaks>, peer: SocketAddr, request: Request) -> Result<Response, Problem> {
        let name = self.served(request.uri().path(), |speaks| only.is_none_or(|only| speaks == only))?;
        let Arrived { instance, method, uri, headers, taken: Taken { body, room }, inside } =
            self.arrive(peer, request).await?;
        let target = Target::read(&uri)?;
        let own = self.app.own_keys.call_key(instance.account, &name);
        let whose = (name.as_str(), own.as_ref());
        let request = self.upstreams.call(whose, method, &target, headers, body)?.seated(seat(&instance));
        let sent = request.send(Answer::Whole).await;
        drop(room);
        let answer = sent?;
        own.iter().for_each(|own| own.note_status(answer.status().as_u16()));
        Ok(relay::passed_on(&request, answer, inside))
    }

    /// The provider of models that `path` begins with, if what it speaks is right.
    fn served(&self, path: &str, is_right: impl FnOnce(Speaks) -> bool) -> Result<String, Problem> {
        let name = first_part(path);
        match self.upstreams.speaks(name) {
            Some(speaks) if is_right(speaks) => Ok(name.to_owned()),
            _ => Err(Problem::NoSuchPath { path: path.to_owned() }),
        }
    }

    fn spoken_at(&self, path: &str) -> Speaks {
        self.upstreams.speaks(first_part(path)).unwrap_or(Speaks::Anthropic)
    }

    /// Asks who calls, then takes the body in.
    async fn arrive(&self, peer: SocketAddr, request: Request) -> Result<Arrived, Problem> {
        let (parts, body) = request.into_parts();
        let instance = caller(&self.app, &parts.headers, peer)?;
        let inside = (instance.begin_work(Work::AiCall), self.doorway.enter(instance.id)?);
        if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding != "identity") {
            let message = "content-encoding: compressed request bodies are not accepted here.".into();
            return Err(Problem::Unacceptable(Unacceptable { field: None, message }));
        }
        let taken = self.doorway.take_in(&parts.headers, body).await?;
        Ok(Arrived { instance, method: parts.method, uri: parts.uri, headers: parts.headers, taken, inside })
    }

    fn shown(&self, speaks: Speaks, answer: Result<Response, Problem>) -> Response {
        answer.unwrap_or_else(|problem| problem.respond(speaks, self.app.clock.uuid()))
    }
}

/// What decides which of the platform's keys an instance calls with.
#[expect(clippy::cast_possible_truncation, reason = "any part of a random id is as good as another")]
fn seat(instance: &Instance) -> u64 {
    instance.id.0.as_u128() as u64
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
    uri: Uri,
    headers: HeaderMap,
    taken: Taken,
    inside: (WorkInFlight, Place),
}

impl Arrived {
    fn call(&self, demand: Demand) -> Call {
        let Self { instance, headers, .. } = self;
        Call { account: instance.account, instance: instance.id, agent: agent(headers), demand }
    }
}

fn first_part(path: &str) -> &str {
    path.split('/').nth(1).unwrap_or_default()
}
