//! Through to the container and back: headers cleaned both ways, bodies streamed, any Upgrade, nothing buffered.

mod bodies;
mod connection_pool;
mod head_limit;
mod headers;
mod response_body;
mod session_bound_body;
mod traffic_activity;
mod upgrade_tunnel;

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
use hyper::body::Body as _;
use hyper::upgrade::OnUpgrade;
use tokio::sync::oneshot;
use tokio::time::sleep;

pub(super) use self::bodies::UploadBody;
use self::bodies::{ActivityBody, UploadError};
pub(super) use self::connection_pool::{ConnectionPool, ContainerEndpoint};
pub(super) use self::headers::clean_request;
use self::headers::clean_response;
use self::response_body::ResponseBody;
use self::session_bound_body::SessionBoundBody;
use self::traffic_activity::ActivityDetector;
use self::upgrade_tunnel::UpgradeTunnel;
use super::Edge;
use super::in_flight::InFlightPermit;
use super::refusal::EdgeRefusal;
use super::visit::{ASKED_EVERY, Visit};
use crate::client;
use crate::instances::{Work, WorkInFlight};

/// How long a program may think about a request that it has whole before its answer begins.
const ANSWER_WITHIN: Duration = Duration::from_secs(600);

/// What we say of the visitor. Made once: a name in text would be read again with every request.
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
static FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
static FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
static USER: HeaderName = HeaderName::from_static("x-berth-user");
static ASSERTION: HeaderName = HeaderName::from_static("x-berth-assertion");

impl Edge {
    /// Sends the request to the instance's container and the answer back. `place` ends with the last byte; `work` with the
    /// head of the answer, from where on what moves is the work. A probe's lasts until its end and moves nothing.
    pub(in crate::edge) async fn forward(
        &self,
        visit: Arc<Visit>,
        (work, place): (WorkInFlight, InFlightPermit),
        mut request: Request,
    ) -> Result<Response, EdgeRefusal> {
        let most = self.app.config.upload_bytes;
        if request.body().size_hint().lower() > most {
            return Err(EdgeRefusal::TooLarge(most));
        }
        let instance = &visit.instance;
        let from_client = request.extensions_mut().remove::<OnUpgrade>();
        let target = ContainerEndpoint::of(instance, visit.socket()).ok_or(EdgeRefusal::Upstream(GONE))?;
        let upgrade = self.prepare(&mut request, &visit).map_err(|_| EdgeRefusal::Upstream(NOT_A_TARGET))?;
        let (mut response, probe) = self.ask(&visit, &target, work, request).await?;
        let to_container = response.extensions_mut().remove::<OnUpgrade>();
        let protocol = response.headers().get(header::UPGRADE).cloned();
        clean_response(response.headers_mut(), &visit.entrance.host);
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let flow = probe.is_none().then(|| instance.open_flow(Work::Stream));
            let movement = ActivityDetector::of_answer(response.headers());
            // What may not wake it is let begin, and not let hold it awake to its end.
            let _held = (place, probe.filter(|_| visit.counts()));
            let stands = Arc::clone(&visit);
            let answer = |body| ActivityBody { body, flow, movement, given: false, visit, _held };
            return Ok(response.map(|body| Body::new(SessionBoundBody::new(answer(body), stands))));
        }
        let (Some(_), Some(from_client), Some(to_container), Some(protocol)) =
            (upgrade, from_client, to_container, protocol)
        else {
            return Err(EdgeRefusal::Upstream("The instance switched protocols without being asked."));
        };
        let movement = (ActivityDetector::of_upgrade(&protocol), ActivityDetector::of_upgrade(&protocol));
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        response.headers_mut().insert(header::UPGRADE, protocol);
        let flow = visit.counts().then(|| instance.open_flow(Work::Socket));
        tokio::spawn(async move {
            UpgradeTunnel { visit, flow, from_client, to_container, movement }.run().await;
            drop(place);
        });
        Ok(response.map(|_| Body::empty()))
    }

    /// Sends the request and waits for the head of its answer. While its body is on its way in, what moves is the work;
    /// from its last byte on, waiting is. The guard of a probe comes back, to be kept to the end.
    async fn ask(
        &self,
        visit: &Arc<Visit>,
        target: &ContainerEndpoint,
        work: WorkInFlight,
        request: Request,
    ) -> Result<(Response<ResponseBody>, Option<WorkInFlight>), EdgeRefusal> {
        let instance = &visit.instance;
        let (probe, work) = if work.is_probe() { (Some(work), None) } else { (None, Some(work)) };
        let waits = work.is_some();
        let (request, held, sent) = if request.body().is_end_stream() {
            (request.map(|_| UploadBody::nothing()), work, None)
        } else {
            let flow = work.map(|_| instance.open_flow(Work::Upload));
            let (sending, sent) = oneshot::channel::<()>();
            let most = self.app.config.upload_bytes;
            let request = request.map(|body| UploadBody::from_client(body, most, flow, Arc::clone(visit), sending));
            (request, None, Some(sent))
        };
        let sent = async {
            let Some(sent) = sent else { return held };
            // An error: nothing is ever said here, the body is dropped when its last byte is gone.
            let _ = sent.await;
            waits.then(|| instance.begin_work(Work::Request))
        };
        let answer = tokio::select! {
            biased;
            answer = self.upstreams.exchange(target, request) => answer,
            refusal = no_longer((ANSWER_WITHIN, ASKED_EVERY), sent, || visit.still_stands()) => return Err(refusal),
        };
        let response = answer.map_err(|error| self.unanswered(visit, &error))?;
        Ok((response, probe))
    }

    /// Why a request has no answer: the client's doing, or else the instance's.
    fn unanswered(&self, visit: &Visit, error: &anyhow::Error) -> EdgeRefusal {
        let instance = &visit.instance;
        let http = error.downcast_ref::<hyper::Error>();
        if let Some(cut) = http.and_then(|error| error.source()).and_then(|cause| cause.downcast_ref::<UploadError>()) {
            return match cut {
                UploadError::TooLarge => EdgeRefusal::TooLarge(self.app.config.upload_bytes),
                UploadError::Stalled => EdgeRefusal::Stalled,
            };
        }
        tracing::debug!(instance.id = %instance.id, error = %format!("{error:#}"), "an instance did not answer");
        // A body that broke off, or that was none, says nothing about the instance.
        if http.is_some_and(hyper::Error::is_user) {
            return EdgeRefusal::BrokenBody;
        }
        if visit.program.port.is_some() {
            return EdgeRefusal::Upstream(NOT_ON_PORT);
        }
        self.app.instances.report_unreachable(instance);
        EdgeRefusal::Upstream(BROKE_OFF)
    }

    /// Turns the client's request into the container's: its connection, and what may be believed about the client. Returns
    /// the protocol that it asks to switch to.
    fn prepare(&self, request: &mut Request, visit: &Visit) -> anyhow::Result<Option<HeaderValue>> {
        let ip = client::address(request.headers());
        let origin_host = request.headers().get(header::HOST).cloned();
        let upgrade = clean_request(request.headers_mut());
        let path = request.uri().path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        *request.uri_mut() = Uri::from(path);
        *request.version_mut() = Version::HTTP_11;
        let headers = request.headers_mut();
        if let Some(protocol) = &upgrade {
            headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(header::UPGRADE, protocol.clone());
        }
        let host = HeaderValue::from_str(visit.entrance.origin.trim_start_matches("https://"))?;
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
const NOT_A_TARGET: &str = "This address cannot be passed on to the instance.";
const GONE: &str = "Its container was just replaced. Berth looks after it; try again in a moment.";

/// Why an answer is not waited for any more: the visit `stands` no more, which is asked `every` so often, or `limit` has passed
/// since the request was `sent`; an upload takes as long as it takes. What `sent` comes to is kept while the program thinks.
/// Every request comes by here, so there is one timer for both reasons.
async fn no_longer<K, S>(
    (limit, every): (Duration, Duration),
    sent: impl Future<Output = K>,
    stands: impl Fn() -> S,
) -> EdgeRefusal
where
    S: Future<Output = bool>,
{
    let (mut sent, mut pause) = (pin!(sent), pin!(sleep(every)));
    let _kept = loop {
        tokio::select! {
            biased;
            kept = &mut sent => break kept,
            () = &mut pause => {}
        }
        if !stands().await {
            return EdgeRefusal::LogIn;
        }
        pause.set(sleep(every));
    };
    let mut thought = Duration::ZERO;
    while thought <= limit {
        pause.as_mut().await;
        if !stands().await {
            return EdgeRefusal::LogIn;
        }
        pause.set(sleep(every));
        thought += every;
    }
    EdgeRefusal::TooSlow
}

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;

    #[tokio::test]
    async fn a_program_has_its_time_from_the_last_byte_of_the_request_on() {
        let (every, long) = (Duration::from_millis(5), Duration::from_millis(100));
        let patience = (every * 4, every);
        let (sending, sent) = oneshot::channel::<()>();
        let uploaded = async {
            sleep(long).await;
            drop(sending);
        };
        tokio::select! {
            biased;
            () = uploaded => {}
            refused = no_longer(patience, sent, || ready(true)) => panic!("{refused:?} while the upload went on"),
        }
        let waited = tokio::time::timeout(long, no_longer(patience, ready(()), || ready(true))).await;
        assert!(matches!(waited, Ok(EdgeRefusal::TooSlow)));
    }

    #[tokio::test]
    async fn a_visit_that_ended_waits_for_no_answer_whether_its_request_was_sent_or_not() {
        let patience = (Duration::from_secs(60), Duration::from_millis(1));
        let uploading = no_longer(patience, std::future::pending::<()>(), || ready(false));
        assert!(matches!(uploading.await, EdgeRefusal::LogIn));
        assert!(matches!(no_longer(patience, ready(()), || ready(false)).await, EdgeRefusal::LogIn));
    }
}
