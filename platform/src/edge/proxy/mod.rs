//! The reverse proxy: forwards a request to the instance's container and streams the response back.
//!
//! ```text
//! client --> UploadBody ------------------------------> ConnectionPool --> container
//! client <-- SessionBoundBody <- ActivityBody <- ResponseBody <-'   (UpgradeTunnel after a 101)
//! ```
//!
//! Headers are filtered in both directions (`headers.rs`). Bodies and upgraded connections pass unchanged and
//! unbuffered.

mod activity_body;
mod connection;
mod connection_pool;
mod head_limit;
mod headers;
mod response_body;
mod session_bound_body;
mod traffic_activity;
mod upgrade_tunnel;
mod upload_body;

use std::error::Error as _;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri, Version, header};
use axum::response::Response;
use berth_net::peer;
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use tokio::time::sleep;

use self::activity_body::ActivityBody;
pub(super) use self::connection::ContainerEndpoint;
pub(super) use self::connection_pool::ConnectionPool;
pub(super) use self::headers::clean_request;
use self::headers::clean_response;
use self::response_body::ResponseBody;
use self::session_bound_body::SessionBoundBody;
use self::traffic_activity::ActivityDetector;
use self::upgrade_tunnel::UpgradeTunnel;
pub(super) use self::upload_body::UploadBody;
use self::upload_body::{UploadError, UploadTerms};
use super::Edge;
use super::in_flight::InFlightPermit;
use super::refusal::EdgeRefusal;
use super::visit::{REVALIDATE_EVERY, Visit};
use crate::instances::{Work, WorkInFlight};

/// How long a response may take to begin, and how often the visit is revalidated meanwhile.
const RESPONSE_TIMEOUT: ResponseTimeout =
    ResponseTimeout { limit: Duration::from_secs(600), check_every: REVALIDATE_EVERY };

// Header names that the edge sets, made once: a name given as text would be parsed and hashed for every request.
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
static USER: HeaderName = HeaderName::from_static("x-berth-user");
static ASSERTION: HeaderName = HeaderName::from_static("x-berth-assertion");

impl Edge {
    /// Sends the request to the instance's container and returns its response, with a body that still streams.
    ///
    /// The in-flight permit is held until the last byte. `work` keeps the instance awake until the head of the response
    /// arrives; from then on only moving data does. The guard of a probe lasts to the last byte, and its data does not
    /// count.
    pub(in crate::edge) async fn forward(
        &self,
        visit: Arc<Visit>,
        work: WorkInFlight,
        permit: InFlightPermit,
        mut request: Request,
    ) -> Result<Response, EdgeRefusal> {
        // An announced length is checked before a byte is read. `UploadBody` counts a chunked body.
        let max_bytes = self.app.config.upload_bytes;
        if request.body().size_hint().lower() > max_bytes {
            return Err(EdgeRefusal::TooLarge(max_bytes));
        }
        let instance = &visit.instance;
        let client = request.extensions_mut().remove::<OnUpgrade>();
        let endpoint = ContainerEndpoint::of(instance, visit.socket()).ok_or(EdgeRefusal::Upstream(GONE))?;
        let upgrade = self.prepare(&mut request, &visit).map_err(|_| EdgeRefusal::Upstream(BAD_TARGET))?;
        let (mut response, probe) = self.exchange(&visit, &endpoint, work, request).await?;
        let container = response.extensions_mut().remove::<OnUpgrade>();
        let protocol = response.headers().get(header::UPGRADE).cloned();
        clean_response(response.headers_mut(), &visit.virtual_host.host);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let flow = probe.is_none().then(|| instance.open_flow(Work::Stream));
            let detector = ActivityDetector::for_response(response.headers());
            // The guard of a visit that may not wake the instance is dropped here: its client must not keep the
            // instance awake for as long as it reads.
            let _guards = (permit, probe.filter(|_| visit.counts_as_activity()));
            let session = Arc::clone(&visit);
            let tracked = |body| ActivityBody { body, flow, detector, has_delivered: false, visit, _guards };
            return Ok(response.map(|body| Body::new(SessionBoundBody::new(tracked(body), session))));
        }
        // A 101 without a requested upgrade would leave the client in HTTP and the container in another protocol.
        let (Some(_), Some(client), Some(container), Some(protocol)) = (upgrade, client, container, protocol) else {
            return Err(EdgeRefusal::Upstream("The instance switched protocols without being asked."));
        };
        let (from_client, from_container) =
            (ActivityDetector::for_upgrade(&protocol), ActivityDetector::for_upgrade(&protocol));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
        let flow = visit.counts_as_activity().then(|| instance.open_flow(Work::Socket));
        // This task is detached: the response has to be returned before hyper hands over the client's socket. It ends
        // when either side closes or the visit ends, and the in-flight permit that it holds bounds the number of such
        // tasks.
        tokio::spawn(async move {
            UpgradeTunnel { visit, flow, client, container, from_client, from_container }.run().await;
            drop(permit);
        });
        Ok(response.map(|_| Body::empty()))
    }

    /// Sends the request and waits for the head of its response. While the request body arrives, moving bytes keep the
    /// instance awake; after its last byte, the wait itself does. The guard of a probe is returned to the caller, who
    /// holds it to the end.
    async fn exchange(
        &self,
        visit: &Arc<Visit>,
        endpoint: &ContainerEndpoint,
        work: WorkInFlight,
        request: Request,
    ) -> Result<(Response<ResponseBody>, Option<WorkInFlight>), EdgeRefusal> {
        let instance = &visit.instance;
        let (probe, work) = if work.is_probe() { (Some(work), None) } else { (None, Some(work)) };
        let is_work = work.is_some();
        let (request, held, sent) = if request.body().is_end_stream() {
            (request.map(|_| UploadBody::empty()), work, None)
        } else {
            // `work` is dropped here: a stalled upload must not keep the instance awake for two minutes.
            let flow = work.map(|_| instance.open_flow(Work::Upload));
            let (ended, sent) = oneshot::channel::<()>();
            let max_bytes = self.app.config.upload_bytes;
            let terms = UploadTerms { max_bytes, flow, visit: Arc::clone(visit), _ended: ended };
            (request.map(|body| UploadBody::from_client(body, terms)), None, Some(sent))
        };
        let sent = async {
            let Some(sent) = sent else { return held };
            // Always an error: nothing is ever sent on this channel. The body drops its half after its last byte.
            let _ = sent.await;
            is_work.then(|| instance.begin_work(Work::Request))
        };
        // Biased: a response that has arrived wins over a timeout of the same moment.
        let response = tokio::select! {
            biased;
            response = self.connections.exchange(endpoint, request) => response,
            refusal = RESPONSE_TIMEOUT.elapsed(sent, || visit.is_valid()) => return Err(refusal),
        };
        let response = response.map_err(|error| self.refusal_for(visit, &error))?;
        Ok((ResponseBody::wrap(response), probe))
    }

    /// The reason why there is no response: a fault of the client, or else of the instance.
    fn refusal_for(&self, visit: &Visit, error: &anyhow::Error) -> EdgeRefusal {
        let instance = &visit.instance;
        let http = error.downcast_ref::<hyper::Error>();
        // An error of the request body comes back as the source of hyper's error.
        if let Some(error) = http.and_then(|error| error.source()).and_then(|cause| cause.downcast_ref::<UploadError>())
        {
            return match error {
                UploadError::TooLarge => EdgeRefusal::TooLarge(self.app.config.upload_bytes),
                UploadError::Stalled => EdgeRefusal::Stalled,
            };
        }
        tracing::debug!(instance.id = %instance.id, error = %format!("{error:#}"), "an instance did not answer");
        // The client's body broke off or was malformed. That says nothing about the instance.
        if http.is_some_and(hyper::Error::is_user) {
            return EdgeRefusal::BrokenBody;
        }
        // A further port may have no listener, so this is not reported: only the contract's port tells the health.
        if visit.program.port.is_some() {
            return EdgeRefusal::Upstream(NOT_ON_PORT);
        }
        self.app.instances.report_unreachable(instance);
        EdgeRefusal::Upstream(BROKE_OFF)
    }

    /// Turns the client's request into the container's: target, hop-by-hop headers, and the trusted statements about
    /// the client. Returns the protocol of a requested upgrade.
    fn prepare(&self, request: &mut Request, visit: &Visit) -> anyhow::Result<Option<HeaderValue>> {
        // Read before `clean_request` removes them: Caddy's X-Forwarded-For is replaced by the one address it holds.
        let ip = peer::address(request.headers());
        let origin_host = request.headers().get(header::HOST).cloned();
        let upgrade = clean_request(request.headers_mut());
        // Origin form and HTTP/1.1 (RFC 9112 3.2.1), also for a request that came in absolute form or over HTTP/2.
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        if let Some(protocol) = &upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        let host = HeaderValue::from_str(visit.virtual_host.origin.trim_start_matches("https://"))?;
        headers.insert(&FORWARDED_FOR, HeaderValue::from_str(&ip.to_string())?);
        headers.insert(&FORWARDED_PROTO, HeaderValue::from_static("https"));
        headers.insert(&FORWARDED_HOST, host.clone());
        if let Some(prefix) = &visit.program.prefix {
            headers.insert(&FORWARDED_PREFIX, HeaderValue::from_str(prefix)?);
        }
        headers.insert(header::HOST, origin_host.unwrap_or(host));
        if let Some(user) = visit.user() {
            headers.insert(&USER, HeaderValue::from_str(user.as_str())?);
        }
        headers.insert(&ASSERTION, self.assertions.of(&visit.instance, visit.user(), self.app.clock.now()));
        Ok(upgrade)
    }
}

const BROKE_OFF: &str =
    "Its program closed the connection, or is not listening on its port. Berth looks after it; try again in a moment.";
const NOT_ON_PORT: &str =
    "No program answers on that port. It has to listen on all addresses (0.0.0.0), not on 127.0.0.1 alone.";
const BAD_TARGET: &str = "This address cannot be passed on to the instance.";
const GONE: &str = "Its container was just replaced. Berth looks after it; try again in a moment.";

/// How long a response may take to begin.
#[derive(Clone, Copy)]
struct ResponseTimeout {
    /// Counted from the last byte of the request: an upload may take any time.
    limit: Duration,
    check_every: Duration,
}

impl ResponseTimeout {
    /// Completes with the reason to stop waiting: the visit is no longer valid, or the limit has passed since the
    /// request was `sent`. The guard that `sent` returns is held until then.
    ///
    /// Every request passes here, so one timer serves both reasons. The limit is measured in whole check intervals.
    async fn elapsed<K, V>(self, sent: impl Future<Output = K>, is_valid: impl Fn() -> V) -> EdgeRefusal
    where
        V: Future<Output = bool>,
    {
        let Self { limit, check_every } = self;
        let (mut sent, mut pause) = (pin!(sent), pin!(sleep(check_every)));
        let _guard = loop {
            tokio::select! {
                biased;
                guard = &mut sent => break guard,
                () = &mut pause => {}
            }
            if !is_valid().await {
                return EdgeRefusal::LogIn;
            }
            pause.set(sleep(check_every));
        };
        let mut waited = Duration::ZERO;
        while waited <= limit {
            pause.as_mut().await;
            if !is_valid().await {
                return EdgeRefusal::LogIn;
            }
            pause.set(sleep(check_every));
            waited += check_every;
        }
        EdgeRefusal::TooSlow
    }
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_program_has_its_time_from_the_last_byte_of_the_request_on() {
        let (check_every, long) = (Duration::from_millis(5), Duration::from_millis(100));
        let timeout = ResponseTimeout { limit: check_every * 4, check_every };
        let (ended, sent) = oneshot::channel::<()>();
        let uploaded = async {
            sleep(long).await;
            drop(ended);
        };
        tokio::select! {
            biased;
            () = uploaded => {}
            refused = timeout.elapsed(sent, || ready(true)) => panic!("{refused:?} while the upload went on"),
        }
        let waited = tokio::time::timeout(long, timeout.elapsed(ready(()), || ready(true))).await;
        assert!(matches!(waited, Ok(EdgeRefusal::TooSlow)));
    }

    #[tokio::test]
    async fn an_ended_visit_waits_for_no_response_whether_its_request_was_sent_or_not() {
        let timeout = ResponseTimeout { limit: Duration::from_secs(60), check_every: Duration::from_millis(1) };
        let uploading = timeout.elapsed(std::future::pending::<()>(), || ready(false));
        assert!(matches!(uploading.await, EdgeRefusal::LogIn));
        assert!(matches!(timeout.elapsed(ready(()), || ready(false)).await, EdgeRefusal::LogIn));
    }
}
