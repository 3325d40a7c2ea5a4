//! What the quota proxy would be if it only passed calls on, as `llm` does that: the same server, the same client with
//! the same settings, the same headers let through, whole answers read whole and streams passed in the pieces they come
//! in. The product has no switch for it, and must have none.
//!
//! Left out is all that governs: whose token it is and where it comes from, how much may be in the door, what the call
//! may cost, its hold and its receipt, the figures of usage beside the path and in it, and reading on for callers that
//! hung up.

use std::cell::OnceCell;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use berth_net::hop_by_hop;
use berth_net::server::{self, Lanes, PeerLimit};
use reqwest::Url;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

const LARGEST_BODY: usize = 32 * 1024 * 1024;
const FORWARDED: [&str; 4] = ["content-type", "accept", "user-agent", "openai-beta"];
const FORWARDED_PREFIXES: [&str; 3] = ["anthropic-", "x-stainless-", "x-claude-code-"];
const NOT_RETURNED: [&str; 4] = ["content-length", "set-cookie", "alt-svc", "openai-organization"];

thread_local! {
    /// As in the product, each thread has connections of its own.
    static CLIENT: OnceCell<reqwest::Client> = const { OnceCell::new() };
}

#[derive(Clone)]
struct Way {
    upstream: String,
}

/// Serves until it is told to end, and says where.
pub fn run(upstream: u16) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let way = Way { upstream: format!("http://127.0.0.1:{upstream}") };
        let router = Router::new()
            .route("/openai/v1/chat/completions", post(pass_on))
            .route("/anthropic/v1/messages", post(pass_on))
            .with_state(way);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        println!("{}", listener.local_addr()?);
        std::io::stdout().flush()?;
        let lanes = Lanes::one_a_processor()?;
        server::serve_on(lanes, listener, router, PeerLimit::Unlimited, CancellationToken::new()).await;
        Ok(())
    })
}

async fn pass_on(State(way): State<Way>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let Ok(body) = axum::body::to_bytes(body, LARGEST_BODY).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    match way.ask(parts.uri.path(), parts.headers, body).await {
        Ok(response) => response,
        Err(error) => (StatusCode::BAD_GATEWAY, error.to_string()).into_response(),
    }
}

impl Way {
    async fn ask(&self, path: &str, headers: HeaderMap, body: Bytes) -> anyhow::Result<Response> {
        let mut url = Url::parse(&self.upstream)?;
        url.set_path(path.trim_start_matches("/openai").trim_start_matches("/anthropic"));
        let mut headers = without(headers, |name| !is_forwarded(name));
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer sk-of-the-platform-0123456789abcdef"));
        let answer = client_here()?.post(url).headers(headers).body(body).send().await?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        let is_stream =
            headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event"));
        let body = if is_stream { Body::from_stream(answer.bytes_stream()) } else { answer.bytes().await?.into() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        *response.headers_mut() =
            without(headers, |name| NOT_RETURNED.contains(&name) || name.starts_with("x-ratelimit-"));
        Ok(response)
    }
}

fn is_forwarded(name: &str) -> bool {
    FORWARDED.contains(&name) || FORWARDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn without(mut headers: HeaderMap, is_held_back: impl Fn(&str) -> bool) -> HeaderMap {
    hop_by_hop::remove_hop_by_hop(&mut headers);
    let held_back: Vec<HeaderName> = headers.keys().filter(|name| is_held_back(name.as_str())).cloned().collect();
    for name in held_back {
        headers.remove(name);
    }
    headers
}

fn client_here() -> anyhow::Result<reqwest::Client> {
    CLIENT.with(|here| match here.get() {
        Some(client) => Ok(client.clone()),
        None => {
            let client = client()?;
            Ok(here.get_or_init(|| client).clone())
        }
    })
}

fn client() -> anyhow::Result<reqwest::Client> {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .connect_timeout(Duration::from_secs(10))
        .read_timeout(Duration::from_secs(600))
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy();
    Ok(client.build()?)
}
