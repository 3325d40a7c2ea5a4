//! The routes of the default image: its page, the question form, alarms, webhooks and the budget.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use askama::Template;
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Form, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt;
use serde::Deserialize;
use serde_json::json;

use crate::ServerState;
use crate::assertion;
use crate::model::{AnswerPiece, MODELS, RemainingBudget};
use crate::webhooks::WebhookRecord;

type SharedState = State<Arc<ServerState>>;

/// The most webhooks that the page lists.
const LISTED: usize = 8;
/// Largest body of a webhook that Berth accepts, in bytes.
const MAX_WEBHOOK_BYTES: usize = 1024 * 1024;

/// Content Security Policy: no inline styles or scripts, no other origins, no framing.
const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

pub fn routes(server: Arc<ServerState>) -> Router {
    Router::new()
        .route("/", get(front))
        .route("/ask", post(ask))
        .route("/alarm", post(alarm))
        .route("/budget", get(budget))
        .route("/whoami", get(whoami))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/style.css", get(|| file("text/css; charset=utf-8", include_str!("../static/style.css"))))
        .route("/app.js", get(|| file("text/javascript; charset=utf-8", include_str!("../static/app.js"))))
        .route("/favicon.svg", get(|| file("image/svg+xml", include_str!("../static/favicon.svg"))))
        .fallback(|| async { (StatusCode::NOT_FOUND, "There is nothing at this address. The front page is at /\n") })
        .layer(DefaultBodyLimit::max(64 * 1024))
        .layer(middleware::map_response(with_headers))
        .layer(middleware::from_fn_with_state(server.clone(), owner_only))
        .layer(middleware::from_fn_with_state(server.clone(), own_forms_only))
        // The last layer runs first. Webhooks pass before the two checks, because their senders are neither on this
        // page nor the owner; `X-Berth-Delivery` proves that Berth delivered them.
        .layer(middleware::from_fn_with_state(server.clone(), receive_webhooks))
        .with_state(server)
}

#[derive(Template)]
#[template(path = "front.html")]
struct FrontPage<'a> {
    handle: &'a str,
    up_seconds: u64,
    up: String,
    visits: Option<u64>,
    money: Option<BudgetView>,
    webhooks: Vec<WebhookEntry>,
    models: &'a [(&'a str, &'a str)],
    chosen: &'a str,
    question: &'a str,
    answer: Option<String>,
    trouble: Option<String>,
}

/// A received webhook in the list.
struct WebhookEntry {
    what: String,
    bytes: usize,
    ago: String,
}

/// The budget as it is shown.
#[derive(serde::Serialize)]
struct BudgetView {
    left: String,
    allowance: String,
    /// The remaining part in percent, 0 to 100.
    percent: i64,
}

impl From<RemainingBudget> for BudgetView {
    fn from(budget: RemainingBudget) -> Self {
        let percent = budget.left_nanodollars.max(0).saturating_mul(100) / budget.allowance_nanodollars.max(1);
        Self {
            left: dollars(budget.left_nanodollars),
            allowance: dollars(budget.allowance_nanodollars),
            percent: percent.min(100),
        }
    }
}

async fn front(State(server): SharedState) -> Response {
    let visits = server.visits.count().await.inspect_err(|e| eprintln!("The visit was not counted: {e}")).ok();
    show(&server, visits, MODELS[0].0, "", None).await
}

#[derive(Deserialize)]
struct QuestionForm {
    #[serde(default)]
    question: String,
    #[serde(default)]
    model: String,
}

/// `POST /ask`: streams the answer to the page's script as JSON lines; a browser without scripts gets a whole page.
async fn ask(State(server): SharedState, headers: HeaderMap, Form(asked): Form<QuestionForm>) -> Response {
    let question = asked.question.trim();
    // The name goes into a call that the owner pays for: only the offered models are accepted from a form.
    let model = MODELS.iter().find(|(name, _)| *name == asked.model).unwrap_or(&MODELS[0]).0;
    let pieces = if question.is_empty() {
        futures_util::stream::iter([AnswerPiece::Failed("Write a question first.".into())]).boxed()
    } else {
        server.models.ask(model, question).await
    };
    let wants_stream = headers.get(header::ACCEPT).is_some_and(|a| a.as_bytes() == b"application/x-ndjson");
    if !wants_stream {
        return show(&server, None, model, question, Some(pieces.collect().await)).await;
    }
    let lines = pieces.map(|piece| {
        let line = match piece {
            AnswerPiece::Text(text) => json!({ "text": text }),
            AnswerPiece::CutShort => json!({ "note": CUT_SHORT }),
            AnswerPiece::Failed(sentence) => json!({ "trouble": sentence }),
        };
        Ok::<_, Infallible>(format!("{line}\n"))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response()
}

#[derive(Deserialize)]
struct AlarmForm {
    minutes: u64,
}

/// The name of the page's only alarm. Setting it again replaces it.
const ALARM: &str = "page";

/// Sets the alarm. Berth delivers it to this same path, as a webhook like any other.
async fn alarm(State(server): SharedState, Form(AlarmForm { minutes }): Form<AlarmForm>) -> Response {
    let at = now() + minutes.clamp(1, 24 * 60) * 60;
    match server.models.set_alarm(ALARM, at, "/alarm").await {
        Ok(()) => Redirect::to("/#webhooks").into_response(),
        Err(sentence) => show(&server, None, MODELS[0].0, "", Some(vec![AnswerPiece::Failed(sentence)])).await,
    }
}

/// Receives webhooks on every path, since the owner may open any. The header `X-Berth-Delivery` identifies them: Berth
/// removes names of that form from all other requests.
async fn receive_webhooks(State(server): SharedState, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let text = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let Some(id) = text("x-berth-delivery").map(str::to_owned) else {
        return next.run(Request::from_parts(parts, body)).await;
    };
    let what = match text("x-berth-alarm") {
        Some(alarm) => format!("Alarm {alarm}"),
        None => format!("{} {}", parts.method, parts.uri.path()),
    };
    let Ok(body) = axum::body::to_bytes(body, MAX_WEBHOOK_BYTES).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match server.webhooks.record(WebhookRecord { id, what, bytes: body.len(), at: now() }).await {
        Ok(()) => StatusCode::NO_CONTENT.into_response(),
        Err(e) => {
            eprintln!("A webhook was not recorded: {e}");
            // Not 2xx, so that Berth retries the delivery.
            StatusCode::INSUFFICIENT_STORAGE.into_response()
        }
    }
}

const CUT_SHORT: &str = "The answer was cut short at 1024 tokens.";

async fn show(
    server: &ServerState,
    visits: Option<u64>,
    model: &str,
    question: &str,
    answered: Option<Vec<AnswerPiece>>,
) -> Response {
    let (answer, trouble) = joined(answered.unwrap_or_default());
    let up = server.since.elapsed().as_secs();
    let webhooks = server.webhooks.newest(LISTED).await.inspect_err(|e| eprintln!("Webhooks were not read: {e}"));
    let entry = |webhook: WebhookRecord| WebhookEntry {
        what: webhook.what,
        bytes: webhook.bytes,
        ago: duration(now().saturating_sub(webhook.at)),
    };
    let page = FrontPage {
        handle: &server.handle,
        up_seconds: up,
        up: duration(up),
        visits,
        money: server.models.budget().await.map(BudgetView::from),
        webhooks: webhooks.unwrap_or_default().into_iter().map(entry).collect(),
        models: MODELS,
        chosen: model,
        question,
        answer: (!answer.is_empty()).then_some(answer),
        trouble,
    };
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "The page could not be made.\n").into_response(),
    }
}

/// The text of an answer, and a sentence when the answer is incomplete.
fn joined(pieces: Vec<AnswerPiece>) -> (String, Option<String>) {
    let (mut answer, mut trouble) = (String::new(), None);
    for piece in pieces {
        match piece {
            AnswerPiece::Text(text) => answer.push_str(&text),
            AnswerPiece::CutShort => trouble = Some(CUT_SHORT.to_owned()),
            AnswerPiece::Failed(sentence) => trouble = Some(sentence),
        }
    }
    (answer, trouble)
}

async fn budget(State(server): SharedState) -> Response {
    match server.models.budget().await {
        Some(budget) => Json(BudgetView::from(budget)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "The budget is not known just now.\n").into_response(),
    }
}

/// `GET /whoami`: the visitor according to `X-Berth-User`, and whether the platform's signature confirms it.
async fn whoami(State(server): SharedState, headers: HeaderMap) -> Json<serde_json::Value> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let user = text("x-berth-user");
    let verdict = server.key.verdict(text(assertion::HEADER), user, now());
    Json(json!({ "user": user.unwrap_or("nobody"), "assertion": verdict }))
}

/// The current Unix time in seconds.
#[expect(clippy::disallowed_methods, reason = "an assertion ends by the clock that the platform has as well")]
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

async fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    // Files change together with the page and are small: revalidation costs less than a new page with an old style.
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text)
}

/// CSRF protection: unsafe methods only from this instance's own page. Other instances are on the same site (the same
/// registrable domain), so `SameSite` cookies do not stop their forms.
async fn own_forms_only(State(server): SharedState, request: Request, next: Next) -> Response {
    if request.method().is_safe() || is_own(request.headers(), &server.url) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "This form was sent from another site. Open this instance's own page and try again.\n")
        .into_response()
}

/// Whether the request comes from this instance's own page, by `Sec-Fetch-Site`, or by `Origin` in browsers without it.
fn is_own(headers: &HeaderMap, url: &str) -> bool {
    match headers.get("sec-fetch-site") {
        Some(site) => matches!(site.as_bytes(), b"same-origin" | b"none"),
        None => headers.get(header::ORIGIN).is_some_and(|o| !url.is_empty() && o.as_bytes() == url.as_bytes()),
    }
}

/// Authorization: the page is private, and a question costs the owner's budget. Guests and strangers whom the owner
/// admitted are refused; the owner's own program may serve them on other paths.
async fn owner_only(State(server): SharedState, request: Request, next: Next) -> Response {
    if !is_the_owners(request.uri().path()) || is_owner(request.headers(), &server.handle) {
        return next.run(request).await;
    }
    let sentence = "You have access to this instance, but its program shows this page to its owner only.\n";
    (StatusCode::FORBIDDEN, sentence).into_response()
}

fn is_the_owners(path: &str) -> bool {
    matches!(path, "/" | "/ask" | "/alarm" | "/budget")
}

fn is_owner(headers: &HeaderMap, handle: &str) -> bool {
    headers.get("x-berth-user").is_some_and(|user| user.as_bytes() == handle.as_bytes())
}

async fn with_headers(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    // Static files set their own value; all other responses are private.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// `$5.00`, or `$4.9987` with hundredths of a cent. Rounded down, so that the page never shows more than the remainder.
fn dollars(nano: i64) -> String {
    let hundredths_of_cents = nano.max(0) / 100_000;
    let (whole, rest) = (hundredths_of_cents / 10_000, hundredths_of_cents % 10_000);
    if rest % 100 == 0 { format!("${whole}.{:02}", rest / 100) } else { format!("${whole}.{rest:04}") }
}

/// `2 h 5 min`, in the two largest units. `static/app.js` formats it the same way.
fn duration(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, m) => format!("{m} min {} s", seconds % 60),
        (0, h, m) => format!("{h} h {m} min"),
        (d, h, _) => format!("{d} d {h} h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_shown_to_a_hundredth_of_a_cent_and_never_rounded_up() {
        for (nano, shown) in [
            (5_000_000_000, "$5.00"),
            (4_998_712_345, "$4.9987"),
            (4_999_999_999, "$4.9999"),
            (99_999, "$0.00"),
            (-7, "$0.00"),
            (120_500_000_000, "$120.50"),
        ] {
            assert_eq!(dollars(nano), shown);
        }
    }

    #[test]
    fn a_duration_is_shown_in_its_two_largest_units() {
        for (seconds, text) in [(0, "0 s"), (59, "59 s"), (61, "1 min 1 s"), (7500, "2 h 5 min"), (200_000, "2 d 7 h")]
        {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn a_visitor_is_not_taken_for_the_owner() {
        for (user, owner) in [(Some("alice"), true), (Some("bob"), false), (Some("Alice"), false), (None, false)] {
            let mut headers = HeaderMap::new();
            if let Some(user) = user {
                headers.insert("x-berth-user", HeaderValue::from_static(user));
            }
            assert_eq!(is_owner(&headers, "alice"), owner, "{user:?}");
        }
    }

    #[test]
    fn only_the_instances_own_page_may_post() {
        let url = "https://alice.example.com";
        for (site, origin, own) in [
            (Some("same-origin"), None, true),
            (Some("none"), None, true),
            (Some("same-site"), Some(url), false),
            (Some("cross-site"), None, false),
            (None, Some(url), true),
            (None, Some("https://bob.example.com"), false),
            (None, Some("null"), false),
            (None, None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(site) = site {
                headers.insert("sec-fetch-site", HeaderValue::from_static(site));
            }
            if let Some(origin) = origin {
                headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
            }
            assert_eq!(is_own(&headers, url), own, "{site:?} {origin:?}");
        }
    }
}
