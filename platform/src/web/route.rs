//! One row of the route table: method, path, access level, handler.

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{self, MethodRouter};

use super::access::AccessLevel;
use crate::app::App;

/// One row of the table.
pub struct Route {
    pub method: Method,
    /// As axum writes it, `{id}` for a part that varies.
    pub path: &'static str,
    pub access: AccessLevel,
    pub(super) handler: MethodRouter<App>,
}

impl Route {
    /// The same for bodies of up to so many bytes.
    pub(super) fn with_bodies_of(self, bytes: usize) -> Self {
        Self { handler: self.handler.layer(DefaultBodyLimit::max(bytes)), ..self }
    }
}

pub(super) fn get<H, T>(path: &'static str, access: AccessLevel, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    Route { method: Method::GET, path, access, handler: routing::get(handler) }
}

pub(super) fn post<H, T>(path: &'static str, access: AccessLevel, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    Route { method: Method::POST, path, access, handler: routing::post(handler) }
}

pub(super) fn put<H, T>(path: &'static str, access: AccessLevel, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    Route { method: Method::PUT, path, access, handler: routing::put(handler) }
}

pub(super) fn delete<H, T>(path: &'static str, access: AccessLevel, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    Route { method: Method::DELETE, path, access, handler: routing::delete(handler) }
}
