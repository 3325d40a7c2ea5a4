//! One visit of the owner that was let through: to wake the instance for as long as the visit may go on.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::http::Uri;

use super::Edge;
use super::program::Program;
use crate::hosts::Entrance;
use crate::instances::{Cause, Fact, Instance, Wish};

/// Who visits what, by which session.
pub(super) struct Visit {
    pub edge: Edge,
    pub instance: Arc<Instance>,
    pub entrance: Entrance,
    pub program: Program,
    pub session: Option<String>,
}

impl Visit {
    /// Where the program listens that it is for.
    pub(super) fn socket(&self) -> SocketAddr {
        self.program.socket(&self.instance)
    }

    /// The address that was asked for, without its fragment, which browsers keep to themselves.
    pub(super) fn address(&self, target: &Uri) -> String {
        let prefix = self.program.prefix.as_deref().unwrap_or_default();
        format!("{}{prefix}{}", self.entrance.origin, target.path_and_query().map_or("/", |path| path.as_str()))
    }

    /// Whether the session that opened it still stands.
    pub(super) async fn still_stands(&self) -> bool {
        match &self.session {
            Some(session) => matches!(self.edge.app.accounts.is_live(&self.entrance.host, session).await, Ok(true)),
            None => false,
        }
    }

    /// Wakes an instance that fell asleep by itself, so that what is under way can go on. One that was put to sleep stays
    /// so until the next request, and what has ended is not begun again.
    pub(super) fn rouse(self: &Arc<Self>) {
        let asleep = matches!(self.instance.fact(), Fact::Freezing | Fact::Frozen);
        if !asleep || self.instance.status().wish != Wish::Available {
            return;
        }
        let visit = Arc::clone(self);
        tokio::spawn(async move {
            if visit.still_stands().await
                && let Err(error) = visit.edge.app.instances.wake(&visit.instance, Cause::Visit).await
            {
                tracing::debug!(instance.id = %visit.instance.id, %error, "what was under way waits");
            }
        });
    }
}
