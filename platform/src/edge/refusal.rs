//! Error responses of the edge: a page for people, problem+json (RFC 9457) for programs.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::Response;
use berth_ground::error::Error;
use berth_ground::handle::Handle;
use berth_net::cookies;
use berth_net::hosts::Hosts;

use super::pages::MessagePage;
use crate::http::headers;
use crate::http::prefetch;
use crate::http::problem::Problem;
use crate::instances::Wish;

/// `Retry-After` for an instance that does not answer yet.
const RETRY_AFTER: Duration = Duration::from_secs(5);
/// `Retry-After` for an instance that this visitor cannot wake.
const ASLEEP_RETRY: Duration = Duration::from_secs(60);

/// Why the edge refuses a request, or has no response to it.
#[derive(Debug)]
pub(super) enum EdgeRefusal {
    NoSuchInstance,
    /// The visitor is not logged in on this host, and the request opens no page that could redirect to the login.
    LogIn,
    /// An unknown path below `/.berth/`.
    NotHere,
    /// The browser came back from the login without its pending cookie.
    NoCookie,
    /// A page of another site sent the visitor's cookie along (CSRF). Holds the instance's own origin.
    OtherOrigin(String),
    /// A page of another site had the browser load this address ahead.
    Prefetch,
    /// The account is suspended or closed; the sentence says which.
    Closed(String),
    /// The account is scheduled for deletion.
    Leaving,
    /// A port that the owner has not opened.
    PortClosed,
    /// Asleep, and the request is passive.
    Asleep,
    /// Asleep, and this visitor may not wake it, or not before the given time has passed.
    AsleepToVisitors(Option<Duration>),
    /// The visitor is logged in, and the owner has not shared this path with them.
    NotShared {
        host: String,
        handle: Handle,
    },
    /// The limit of requests that wait for this instance to wake is reached.
    TooManyWaiting,
    /// The instance did not become ready in time, or failed to start for the given reason.
    NotReady(Option<String>),
    /// The connection to the container failed before the head of the response arrived.
    Upstream(&'static str),
    /// The container has had the whole request for ten minutes without answering.
    TooSlow,
    /// The body is larger than this many bytes.
    TooLarge(u64),
    /// The client announced a body and then stopped sending.
    Stalled,
    /// The request body ended early, or its chunked encoding is malformed.
    BrokenBody,
    /// The browser sends two values for one of our cookies: a script of this host planted the second.
    TwoCookies,
    /// An error of the platform.
    Ours(Error),
}

impl EdgeRefusal {
    pub(super) fn into_response(self, page: bool, hosts: &Hosts) -> Response {
        let (link, label) = match self {
            Self::NoSuchInstance => (hosts.apex_origin(), "Claim your own handle"),
            Self::AsleepToVisitors(_) => (hosts.apex_origin(), "What is Berth?"),
            Self::Leaving => (hosts.app_origin(), "Log in to cancel the deletion"),
            _ => (hosts.app_origin(), "Go to your dashboard"),
        };
        let two_cookies = matches!(self, Self::TwoCookies);
        let problem = self.problem();
        let mut response = if page {
            let (title, message) = (problem.title.into(), problem.detail.clone());
            problem.with(MessagePage { title, message, link: Some(link), label: Some(label.into()) })
        } else {
            problem.json("")
        };
        // Both cookies are deleted. Otherwise the browser would be refused for as long as it keeps both.
        if two_cookies {
            for cookie in cookies::delete_all() {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
        }
        // No cache may serve a refusal in place of the instance's own page.
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        headers::on_instance(response)
    }

    fn problem(self) -> Problem {
        match self {
            Self::NoSuchInstance => Problem::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "There is no instance by that name",
                "This handle is not in use, or it is spelled differently.",
            ),
            Self::LogIn => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "Please log in",
                "This is private. Open it in a browser to log in as the instance's owner, or with an account that the owner invited.",
            ),
            Self::NotHere => {
                Problem::new(StatusCode::NOT_FOUND, "not_found", "Nothing here", "There is nothing at this address.")
            }
            Self::NoCookie => Problem::new(
                StatusCode::BAD_REQUEST,
                "used_link",
                "That link was used already",
                "It works once, in the browser that asked for it, and that browser must keep cookies. Open your instance again from the dashboard.",
            ),
            Self::OtherOrigin(origin) => Problem::new(
                StatusCode::FORBIDDEN,
                "other_origin",
                "Refused",
                format!(
                    "The request came from another site's page. Programs that change something send the header Origin: {origin}."
                ),
            ),
            Self::Prefetch => prefetch::refusal().retry_after(RETRY_AFTER),
            Self::Closed(sentence) => Problem::new(StatusCode::FORBIDDEN, "closed", "Closed", sentence),
            Self::Leaving => Problem::new(
                StatusCode::FORBIDDEN,
                "leaving",
                "This account is being deleted",
                "This instance stays asleep until its files are deleted. Until then its owner can cancel the deletion.",
            ),
            Self::PortClosed => Problem::new(
                StatusCode::NOT_FOUND,
                "port_closed",
                "That port is not open",
                "The owner of this instance opens ports on the dashboard, under Ports.",
            ),
            Self::Asleep => retry_later(
                StatusCode::SERVICE_UNAVAILABLE,
                "asleep",
                "Asleep",
                "The instance is asleep, and an automated request like this does not wake it. A visit does.",
            ),
            Self::AsleepToVisitors(wait) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "asleep",
                "Asleep",
                "The instance is asleep, and at the moment it does not wake for visitors. Its owner can wake it; please try again later.",
            )
            .retry_after(wait.unwrap_or(ASLEEP_RETRY)),
            Self::NotShared { host, handle } => Problem::new(
                StatusCode::FORBIDDEN,
                "not_shared",
                "Not open to you",
                format!("You are logged in as {handle}, and this part of {host} is not open to you. Its owner can open it."),
            ),
            Self::TooManyWaiting => retry_later(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_waiting",
                "Too many are waiting",
                "The instance is waking and too many requests wait for it already. Try again in a moment.",
            ),
            Self::NotReady(reason) => retry_later(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_ready",
                "Not awake yet",
                reason.unwrap_or_else(|| "The instance is still waking. Try again in a moment.".into()),
            ),
            Self::Upstream(sentence) => {
                retry_later(StatusCode::BAD_GATEWAY, "no_answer", "The instance did not answer", sentence)
            }
            Self::TooSlow => Problem::new(
                StatusCode::GATEWAY_TIMEOUT,
                "too_slow",
                "The instance did not answer",
                "Its program has had the request for ten minutes without answering.",
            ),
            Self::TooLarge(most) => Problem::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                "too_large",
                "Too large",
                format!("One request carries at most {} MiB here. Send it in parts.", most >> 20),
            ),
            Self::Stalled => Problem::new(
                StatusCode::REQUEST_TIMEOUT,
                "stalled",
                "The upload stalled",
                "The request announced more than was sent, and nothing arrived for two minutes. Send it again.",
            ),
            Self::BrokenBody => Problem::new(
                StatusCode::BAD_REQUEST,
                "broken_body",
                "Not understood",
                "The request's body ended before it was whole, or was not cut into chunks as HTTP asks. Send it again.",
            ),
            Self::TwoCookies => two_cookies(),
            Self::Ours(error) => error.into(),
        }
    }
}

fn two_cookies() -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "two_cookies",
        "Please try again",
        "Your browser sent Berth's cookie twice: a page on this address planted one. Both are deleted now; open this address again to log in.",
    )
}

/// Refuses every visitor of an account that is suspended or scheduled for deletion. Both end all sessions, so the edge
/// cannot tell the owner from others.
pub(super) fn refuse_closed(wish: Wish) -> Result<(), EdgeRefusal> {
    match wish {
        Wish::Suspended => {
            Err(EdgeRefusal::Closed("This account is suspended. The operator of this server knows why.".into()))
        }
        Wish::Leaving => Err(EdgeRefusal::Leaving),
        _ => Ok(()),
    }
}

fn retry_later(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(status, code, title, detail).retry_after(RETRY_AFTER)
}

impl From<Error> for EdgeRefusal {
    fn from(error: Error) -> Self {
        match error {
            Error::Forbidden(sentence) => Self::Closed(sentence),
            Error::NotFound => Self::NoSuchInstance,
            error => {
                if let Error::Internal(cause) = &error {
                    tracing::error!(error = format!("{cause:#}"), "the edge failed");
                }
                Self::Ours(error)
            }
        }
    }
}
