//! A row of the route table: method, path, access level and handler.

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{self, MethodRouter};

use super::access::AccessLevel;
use crate::app::App;

/// A row of the route table.
pub struct Route {
    pub method: Method,
    /// In axum's syntax: `{id}` is a parameter.
    pub path: &'static str,
    pub access: AccessLevel,
    pub(super) handler: MethodRouter<App>,
}

impl Route {
    /// Replaces the limit on the size of the request body.
    pub(super) fn with_bodies_of(self, bytes: usize) -> Self {
        // A layer on the route is inside the router's own limit and overrides it for this route only.
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
