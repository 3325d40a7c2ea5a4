//! Why the edge does not let a request through, as a page for people and as problem+json (RFC 9457) for programs.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::Response;

use super::pages::MessagePage;
use crate::cookies;
use crate::error::Error;
use crate::handle::Handle;
use crate::hosts::Hosts;
use crate::http::problem::Problem;
use crate::instances::Wish;

/// When to come back to an instance that does not answer yet.
const RETRY: Duration = Duration::from_secs(5);
/// When to come back to one that sleeps until somebody else wakes it.
const ASLEEP_RETRY: Duration = Duration::from_secs(60);

/// Why not.
#[derive(Debug)]
pub(super) enum EdgeRefusal {
    NoSuchInstance,
    /// Nobody is logged in on this host, and it is not a page that could send to the login.
    LogIn,
    /// A path of the edge's own that leads nowhere.
    NotHere,
    /// The browser came back from the login without the cookie it was given.
    NoCookie,
    /// Another site's page tried to use the owner's cookie. Holds the instance's own origin.
    OtherOrigin(String),
    /// Suspended or removed; the sentence says which.
    Closed(String),
    /// Its owner leaves.
    Leaving,
    /// A port that its owner did not open.
    PortClosed,
    /// Not awake, and this request is none that wakes.
    Asleep,
    /// Not awake, and it does not wake for whoever this is; it may after a while, where that is known.
    AsleepToVisitors(Option<Duration>),
    /// Somebody is logged in on this host, and this is not open to them.
    NotShared {
        host: String,
        handle: Handle,
    },
    /// Too many requests wait for this instance to wake.
    TooManyWaiting,
    /// It did not become ready in time, or its last step failed.
    NotReady(Option<String>),
    /// The container broke off before it answered.
    Upstream(&'static str),
    /// The container has the request and does not answer.
    TooSlow,
    /// The body is larger than this many bytes.
    TooLarge(u64),
    /// The client announced a body and stopped sending it.
    Stalled,
    /// What the client sent as a body cannot be read to its end.
    BrokenBody,
    /// The browser sends one of our cookies twice: a script of this host planted one.
    TwoCookies,
    /// A part of the platform failed.
    Ours(Error),
}

impl EdgeRefusal {
    pub(super) fn into_response(self, page: bool, hosts: &Hosts) -> Response {
        let (link, label) = match self {
            Self::NoSuchInstance => (hosts.apex_origin(), "Claim your own handle"),
            Self::AsleepToVisitors(_) => (hosts.apex_origin(), "What is Berth?"),
            Self::Leaving => (hosts.app_origin(), "Log in to keep it"),
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
        if two_cookies {
            for cookie in cookies::all_off() {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
        }
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        response
    }

    fn problem(self) -> Problem {
        match self {
            Self::NoSuchInstance => Problem::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "There is no instance by that name",
                "Nobody has claimed this handle, or it was spelled differently.",
            ),
            Self::LogIn => Problem::new(
                StatusCode::UNAUTHORIZED,
                "unauthenticated",
                "Please log in",
                "This is private. Open it in a browser to log in, as the instance's owner or as somebody its owner let in.",
            ),
            Self::NotHere => {
                Problem::new(StatusCode::NOT_FOUND, "not_found", "Nothing here", "This address leads nowhere.")
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
            Self::Closed(sentence) => Problem::new(StatusCode::FORBIDDEN, "closed", "Closed", sentence),
            Self::Leaving => Problem::new(
                StatusCode::FORBIDDEN,
                "leaving",
                "Its owner leaves",
                "This instance sleeps until its files are destroyed. Until then its owner can keep it after all.",
            ),
            Self::PortClosed => Problem::new(
                StatusCode::NOT_FOUND,
                "port_closed",
                "That port is not open",
                "The owner of this instance opens ports on the dashboard, under Ports.",
            ),
            Self::Asleep => again(
                StatusCode::SERVICE_UNAVAILABLE,
                "asleep",
                "Asleep",
                "The instance is asleep, and a request like this does not wake it. A visit does.",
            ),
            Self::AsleepToVisitors(wait) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "asleep",
                "Asleep",
                "The instance is asleep, and just now it does not wake for visitors. Its owner wakes it; please try again later.",
            )
            .retry_after(wait.unwrap_or(ASLEEP_RETRY)),
            Self::NotShared { host, handle } => Problem::new(
                StatusCode::FORBIDDEN,
                "not_shared",
                "Not open to you",
                format!("You are logged in as {handle}, and this part of {host} is not open to you. Its owner can open it."),
            ),
            Self::TooManyWaiting => again(
                StatusCode::SERVICE_UNAVAILABLE,
                "too_many_waiting",
                "Too many are waiting",
                "The instance is waking and too many requests wait for it already. Try again in a moment.",
            ),
            Self::NotReady(why) => again(
                StatusCode::SERVICE_UNAVAILABLE,
                "not_ready",
                "Not awake yet",
                why.unwrap_or_else(|| "The instance is still waking. Try again in a moment.".into()),
            ),
            Self::Upstream(sentence) => {
                again(StatusCode::BAD_GATEWAY, "no_answer", "The instance did not answer", sentence)
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
                "Nothing came any more",
                "The request announced more than was sent, and nothing came for two minutes. Send it again.",
            ),
            Self::BrokenBody => Problem::new(
                StatusCode::BAD_REQUEST,
                "broken_body",
                "Not understood",
                "The request's body ended before it was whole, or was not cut into chunks as HTTP asks. Send it again.",
            ),
            Self::TwoCookies => Problem::new(
                StatusCode::BAD_REQUEST,
                "two_cookies",
                "Please try again",
                "Your browser sent Berth's cookie twice: a page on this address planted one. Both are deleted now; open this address again to log in.",
            ),
            Self::Ours(error) => error.into(),
        }
    }
}

/// Says so to everybody, where the account is suspended or leaves: both end every session, so nobody is the owner here.
pub(super) fn refuse_closed(wish: Wish) -> Result<(), EdgeRefusal> {
    match wish {
        Wish::Suspended => {
            Err(EdgeRefusal::Closed("This account is suspended. The operator of this server knows why.".into()))
        }
        Wish::Leaving => Err(EdgeRefusal::Leaving),
        _ => Ok(()),
    }
}

fn again(status: StatusCode, code: &'static str, title: &'static str, detail: impl Into<String>) -> Problem {
    Problem::new(status, code, title, detail).retry_after(RETRY)
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
