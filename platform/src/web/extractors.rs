//! What handlers ask for by type: who is asking, from where, and with which half-finished ceremony.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;

use crate::accounts::{Client, Session};
use crate::app::App;
use crate::cookies;
use crate::error::Error;
use crate::http::problem::Problem;
use crate::instances::Instance;

impl FromRequestParts<App> for Session {
    type Rejection = Problem;

    /// Attached by the route's access level; a route without one that asks for it shows nothing to anybody.
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::Unauthenticated.into())
    }
}

/// The instance of whoever asks: found through its owner, so that no path can name another's.
pub struct Mine(pub Arc<Instance>);

impl FromRequestParts<App> for Mine {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let session = <Session as FromRequestParts<App>>::from_request_parts(parts, app).await?;
        app.instances.by_account(session.account).map(Self).ok_or_else(|| Error::NotFound.into())
    }
}

impl FromRequestParts<App> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self::from_headers(&parts.headers))
    }
}

/// The token of the ceremony that this browser is in the middle of.
pub struct Pending(pub String);

impl FromRequestParts<App> for Pending {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let token = cookies::get(&parts.headers, cookies::PENDING);
        let expired = || Error::Conflict("This page has expired. Please start again.".into());
        Ok(Self(token.ok_or_else(expired)?.to_owned()))
    }
}

impl OptionalFromRequestParts<App> for Pending {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Option<Self>, Infallible> {
        Ok(cookies::get(&parts.headers, cookies::PENDING).map(|token| Self(token.to_owned())))
    }
}

/// The token that says this browser is not new, if it has one.
pub struct Device(pub Option<String>);

impl FromRequestParts<App> for Device {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self(cookies::get(&parts.headers, cookies::DEVICE).map(str::to_owned)))
    }
}
