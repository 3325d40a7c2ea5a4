//! Extractors (axum): handlers declare by type which part of a request they need, such as the session, the own instance
//! or the token of a ceremony.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use berth_ground::error::Error;
use berth_net::cookies;

use crate::accounts::{Client, Session};
use crate::app::App;
use crate::http::problem::Problem;
use crate::instances::Instance;

impl FromRequestParts<App> for Session {
    type Rejection = Problem;

    /// Reads the extension that the authorization middleware set. A route whose access level needs no session has none,
    /// so the request is refused.
    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| Error::Unauthenticated.into())
    }
}

/// The instance of the account that sends the request. It is found through its owner, so no path can name the
/// instance of another account.
pub struct OwnInstance(pub Arc<Instance>);

impl FromRequestParts<App> for OwnInstance {
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

/// The token of this browser's ceremony in progress: sign-up, log-in or passkey registration.
pub struct CeremonyToken(pub String);

impl FromRequestParts<App> for CeremonyToken {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Problem> {
        let token = cookies::get(&parts.headers, cookies::PENDING);
        let expired = || Error::Conflict("This page has expired. Please start again.".into());
        Ok(Self(token.ok_or_else(expired)?.to_owned()))
    }
}

impl OptionalFromRequestParts<App> for CeremonyToken {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Option<Self>, Infallible> {
        Ok(cookies::get(&parts.headers, cookies::PENDING).map(|token| Self(token.to_owned())))
    }
}

/// The token of a browser that has logged in to an account before, if it has one.
pub struct DeviceToken(pub Option<String>);

impl FromRequestParts<App> for DeviceToken {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &App) -> Result<Self, Infallible> {
        Ok(Self(cookies::get(&parts.headers, cookies::DEVICE).map(str::to_owned)))
    }
}
