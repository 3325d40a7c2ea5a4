//! Through to the container: HTTP/1.1 on pooled connections, bodies streamed both ways, any Upgrade, nothing buffered.

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::{Authority, PathAndQuery, Scheme};
use axum::http::{HeaderValue, StatusCode, Uri, Version, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use super::Edge;
use super::bodies::{Answer, Upload};
use super::headers::{clean_request, clean_response};
use super::movement::Movement;
use super::places::Place;
use super::refusal::Refusal;
use super::relay::Relay;
use super::visit::Visit;
use crate::client::Client;
use crate::instances::{Instance, Instances, Work, WorkInFlight};

/// A container on the same machine accepts at once, or something is wrong with it.
const CONNECT: Duration = Duration::from_secs(2);
/// Below the keep-alive of common servers (Node.js: 5 s): a connection they are about to close is not used again.
const POOL_IDLE: Duration = Duration::from_secs(4);
/// How long a program may think about a request that it has whole before its answer begins.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);
/// How long the assertion about the visitor holds.
const ASSERTION_SECONDS: i64 = 60;
/// Connections to containers, pooled by container: an address that moved on to another container never gets an old connection.
#[derive(Clone)]
pub struct Upstreams(HyperClient<Dial, Body>);

impl Upstreams {
    pub(super) fn new(instances: Instances) -> Self {
        Self(
            HyperClient::builder(TokioExecutor::new())
                .pool_idle_timeout(POOL_IDLE)
                .pool_timer(TokioTimer::new())
                .build(Dial(instances)),
        )
    }

    /// Sends a request of our own to the instance's container, and what it answers in a word. What comes behind that word is
    /// not read, and the connection not used again.
    pub(super) async fn send(&self, instance: &Instance, mut request: Request) -> anyhow::Result<StatusCode> {
        *request.uri_mut() = upstream_uri(instance, instance.socket(), request.uri())?;
        *request.version_mut() = Version::HTTP_11;
        Ok(self.0.request(request).await?.status())
    }
}

impl Edge {
    /// Sends the request to the instance's container and the answer back. `place` ends with the last byte; `work` with the
    /// head of the answer, from where on what moves is the work. A probe's lasts until its end and moves nothing.
    pub(super) async fn forward(
        &self,
        visit: Arc<Visit>,
        (work, place): (WorkInFlight, Place),
        mut request: Request,
        client: &Client,
    ) -> Result<Response, Refusal> {
        let from_client = request.extensions_mut().remove::<OnUpgrade>();
        let upgrade = clean_request(request.headers_mut());
        self.prepare(&mut request, &visit, client, upgrade.as_ref()).map_err(|_| Refusal::Upstream(NOT_A_TARGET))?;
        let (mut response, probe) = self.ask(&visit, work, request).await?;
        let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let to_container = response.extensions_mut().remove::<OnUpgrade>();
        let protocol = response.headers().get(header::UPGRADE).cloned();
        clean_response(response.headers_mut(), &visit.entrance.host);
        let instance = &visit.instance;
        if !switched {
            let flow = probe.is_none().then(|| instance.open_flow(Work::Stream));
            let movement = Movement::of_answer(response.headers());
            let _held = (place, probe);
            return Ok(response.map(|body| Body::new(Answer { body, flow, movement, given: false, visit, _held })));
        }
        let (Some(from_client), Some(to_container), Some(protocol)) = (from_client, to_container, protocol) else {
            return Err(Refusal::Upstream("The instance switched protocols without being asked."));
        };
        let movement = (Movement::of_upgrade(&protocol), Movement::of_upgrade(&protocol));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
        let flow = instance.open_flow(Work::Socket);
        tokio::spawn(async move {
            Relay { visit, flow, from_client, to_container, movement }.run().await;
            drop(place);
        });
        Ok(response.map(Body::new))
    }

    /// Sends the request and waits for the head of its answer. While its body is on its way in, what moves is the work;
    /// from its last byte on, waiting is. The guard of a probe comes back, to be kept to the end.
    async fn ask(
        &self,
        visit: &Arc<Visit>,
        work: WorkInFlight,
        request: Request,
    ) -> Result<(hyper::Response<hyper::body::Incoming>, Option<WorkInFlight>), Refusal> {
        let instance = &visit.instance;
        let (mut probe, mut work) = if work.is_probe() { (Some(work), None) } else { (None, Some(work)) };
        let flow = (probe.is_none() && !request.body().is_end_stream()).then(|| instance.open_flow(Work::Upload));
        if flow.is_some() {
            work = None;
        }
        let waiting = probe.is_none();
        let (sending, sent) = oneshot::channel::<()>();
        let request = request.map(|body| Body::new(Upload { body, flow, visit: Arc::clone(visit), _ends: sending }));
        let sent = async {
            // An error: nothing is ever said here, the body is dropped when its last byte is gone.
            let _ = sent.await;
            work.or_else(|| waiting.then(|| instance.begin_work(Work::Request)))
        };
        let answer = within(ANSWER_WITHIN, sent, self.upstreams.0.request(request)).await.ok_or(Refusal::TooSlow)?;
        let response = answer.map_err(|error| {
            tracing::debug!(instance.id = %instance.id, error = %format!("{:#}", anyhow::Error::new(error)), "an instance did not answer");
            if visit.program.port.is_some() {
                return Refusal::Upstream(NOT_ON_PORT);
            }
            self.app.instances.report_unreachable(instance);
            Refusal::Upstream(BROKE_OFF)
        })?;
        Ok((response, probe.take()))
    }

    /// Turns the client's request into the container's: its connection, and what may be believed about the client.
    fn prepare(
        &self,
        request: &mut Request,
        visit: &Visit,
        client: &Client,
        upgrade: Option<&HeaderValue>,
    ) -> anyhow::Result<()> {
        let instance = &visit.instance;
        let origin_host = request.headers().get(header::HOST).cloned();
        *request.uri_mut() = upstream_uri(instance, visit.socket(), request.uri())?;
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        if let Some(protocol) = upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        let host = HeaderValue::from_str(visit.entrance.origin.trim_start_matches("https://"))?;
        headers.insert("x-forwarded-for", HeaderValue::from_str(&client.ip.to_string())?);
        headers.insert("x-forwarded-proto", HeaderValue::from_static("https"));
        headers.insert("x-forwarded-host", host.clone());
        if let Some(prefix) = &visit.program.prefix {
            headers.insert("x-forwarded-prefix", HeaderValue::from_str(prefix)?);
        }
        headers.insert(header::HOST, origin_host.unwrap_or(host));
        headers.insert("x-berth-user", HeaderValue::from_str(instance.handle.as_str())?);
        headers.insert("x-berth-assertion", HeaderValue::from_str(&self.assertion(instance))?);
        Ok(())
    }

    /// Who visits, signed so that the program inside can tell it from a forgery: `v1.PAYLOAD.MAC`, both base64url, the MAC
    /// being HMAC-SHA-256 of `v1.PAYLOAD` with the SHA-256 of the instance token as key, which only it and we know.
    fn assertion(&self, instance: &Instance) -> String {
        let until = self.app.clock.now().seconds() + ASSERTION_SECONDS;
        let payload = json!({ "user": instance.handle, "instance": instance.id, "until": until }).to_string();
        let signed = format!("v1.{}", URL_SAFE_NO_PAD.encode(payload));
        let mac = crate::secrets::mac(&instance.token_hash().unwrap_or_default(), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(mac))
    }
}

const BROKE_OFF: &str =
    "Its program closed the connection, or is not listening on its port. Berth looks after it; try again in a moment.";
const NOT_ON_PORT: &str =
    "No program answers on that port. It has to listen on all addresses (0.0.0.0), not on 127.0.0.1 alone.";
const NOT_A_TARGET: &str = "This address cannot be passed on to the instance.";

/// The same path, on a host whose name says which container and address are meant: the pool is keyed by it.
fn upstream_uri(instance: &Instance, socket: SocketAddr, uri: &Uri) -> anyhow::Result<Uri> {
    let container = instance.container().context("no container is known")?;
    let key = &container[..container.len().min(32)];
    let mut parts = axum::http::uri::Parts::default();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(Authority::try_from(format!("{key}.{}:{}", socket.ip(), socket.port()))?);
    parts.path_and_query = Some(uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/")));
    Ok(Uri::from_parts(parts)?)
}

/// Connects to the address in `CONTAINER.ADDRESS:PORT`, if that container is the one that stands there.
#[derive(Clone)]
struct Dial(Instances);

impl tower::Service<Uri> for Dial {
    type Response = TokioIo<TcpStream>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let instances = self.0.clone();
        Box::pin(async move {
            let named = uri.host().and_then(|host| host.split_once('.'));
            let named = named.and_then(|(key, ip)| Some((key.to_owned(), ip.parse::<Ipv4Addr>().ok()?)));
            let (Some((key, ip)), Some(port)) = (named, uri.port_u16()) else {
                return Err(std::io::Error::other("not the name of a container"));
            };
            let stream = tokio::time::timeout(CONNECT, TcpStream::connect(SocketAddr::from((ip, port)))).await??;
            // Asked once the connection stands: the request was meant for a container that may have gone since, and its address
            // may be another's by now.
            if !instances.container_at(ip).is_some_and(|container| container.starts_with(&key)) {
                return Err(std::io::Error::other("another container has the address now"));
            }
            stream.set_nodelay(true)?;
            Ok(TokioIo::new(stream))
        })
    }
}

/// The answer, unless `limit` passes after the request was `sent`: an upload takes as long as it takes. `None` then. What
/// `sent` comes to is kept while it waits.
async fn within<T, K>(limit: Duration, sent: impl Future<Output = K>, answer: impl Future<Output = T>) -> Option<T> {
    let too_long = async {
        let _kept = sent.await;
        tokio::time::sleep(limit).await;
    };
    tokio::select! {
        answer = answer => Some(answer),
        () = too_long => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_program_has_its_time_from_the_last_byte_of_the_request_on() {
        let (short, long) = (Duration::from_millis(20), Duration::from_millis(100));
        let (sending, sent) = oneshot::channel::<()>();
        let uploaded = within(short, sent, async {
            tokio::time::sleep(long).await;
            drop(sending);
            "answer"
        });
        assert_eq!(uploaded.await, Some("answer"));
        assert_eq!(within(short, std::future::ready(()), tokio::time::sleep(long)).await, None);
    }
}
