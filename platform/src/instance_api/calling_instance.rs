//! Authentication of the instance that calls.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use berth_ground::error::Error;

use super::api_error::ApiError;
use crate::app::App;
use crate::http::instance_token::authenticate;
use crate::instances::Instance;

/// The instance that makes a request, authenticated by its token and its address.
pub(super) struct CallingInstance(pub(super) Arc<Instance>);

impl FromRequestParts<App> for CallingInstance {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let ConnectInfo(peer) = ConnectInfo::<SocketAddr>::from_request_parts(parts, app)
            .await
            .map_err(|missing| Error::Internal(missing.into()))?;
        Ok(Self(authenticate(&app.instances, &parts.headers, peer)?))
    }
}
