//! Why the edge does not let a request through, as a page for people and as problem+json (RFC 9457) for programs.

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::pages::MessagePage;
use crate::cookies;
use crate::error::Error;
use crate::hosts::Hosts;

/// Why not.
#[derive(Debug)]
pub(super) enum Refusal {
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
    /// Too many requests wait for this instance to wake.
    TooManyWaiting,
    /// It did not become ready in time, or its last step failed.
    NotReady(Option<String>),
    /// The container broke off before it answered.
    Upstream(&'static str),
    /// The container has the request and does not answer.
    TooSlow,
    /// The browser sends one of our cookies twice: a script of this host planted one.
    TwoCookies,
    /// A part of the platform failed.
    Ours(Error),
}

impl Refusal {
    pub(super) fn into_response(self, page: bool, hosts: &Hosts) -> Response {
        let two_cookies = matches!(self, Self::TwoCookies);
        let (status, title, message) = self.words();
        let retry = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY);
        let mut response = if page {
            let (link, label) = match self {
                Self::NoSuchInstance => (hosts.apex_origin(), "Claim your own handle"),
                _ => (hosts.app_origin(), "Go to your dashboard"),
            };
            let page = MessagePage { title: title.into(), message, link: Some(link), label: Some(label.into()) };
            (status, page).into_response()
        } else {
            let body = json!({ "type": "about:blank", "title": title, "status": status.as_u16(), "detail": message });
            (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
        };
        if retry {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("5"));
        }
        if two_cookies {
            for cookie in cookies::all_off() {
                response.headers_mut().append(header::SET_COOKIE, cookie);
            }
        }
        response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        response
    }

    fn words(&self) -> (StatusCode, &'static str, String) {
        match self {
            Self::NoSuchInstance => (
                StatusCode::NOT_FOUND,
                "There is no instance by that name",
                "Nobody has claimed this handle, or it was spelled differently.".into(),
            ),
            Self::LogIn => (
                StatusCode::UNAUTHORIZED,
                "Please log in",
                "This instance is private. Open it in a browser to log in as its owner.".into(),
            ),
            Self::NotHere => (StatusCode::NOT_FOUND, "Nothing here", "This address leads nowhere.".into()),
            Self::NoCookie => (
                StatusCode::BAD_REQUEST,
                "That link was used already",
                "It works once, in the browser that asked for it, and that browser must keep cookies. Open your instance again from the dashboard.".into(),
            ),
            Self::OtherOrigin(origin) => (
                StatusCode::FORBIDDEN,
                "Refused",
                format!("The request came from another site's page. Programs that change something send the header Origin: {origin}."),
            ),
            Self::Closed(sentence) => (StatusCode::FORBIDDEN, "Closed", sentence.clone()),
            Self::TooManyWaiting => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too many are waiting",
                "The instance is waking and too many requests wait for it already. Try again in a moment.".into(),
            ),
            Self::NotReady(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Not awake yet",
                why.clone().unwrap_or_else(|| "The instance is still waking. Try again in a moment.".into()),
            ),
            Self::Upstream(sentence) => (StatusCode::BAD_GATEWAY, "The instance did not answer", (*sentence).into()),
            Self::TooSlow => (
                StatusCode::GATEWAY_TIMEOUT,
                "The instance did not answer",
                "Its program has had the request for ten minutes without answering.".into(),
            ),
            Self::TwoCookies => (
                StatusCode::BAD_REQUEST,
                "Please try again",
                "Your browser sent Berth's cookie twice: a page on this address planted one. Both are deleted now; open this address again to log in.".into(),
            ),
            Self::Ours(Error::TooMany { message, .. }) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many", message.clone())
            }
            Self::Ours(Error::Unavailable { message, .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "Not just now", message.clone())
            }
            Self::Ours(error) => (StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong", error.to_string()),
        }
    }
}

impl From<Error> for Refusal {
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
