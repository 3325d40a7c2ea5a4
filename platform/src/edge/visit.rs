//! One visit that was let in: how long it stands, and whether the instance wakes for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;

use super::Edge;
use super::program::Program;
use super::refusal::EdgeRefusal;
use crate::handle::Handle;
use crate::hosts::Entrance;
use crate::instances::{Cause, Fact, Instance, Wish};
use crate::sharing::{AccessDecision, Visitor};

/// How often what is open asks whether its visit still stands: what an ended session, or a share that was taken back, still
/// carries.
pub(super) const ASKED_EVERY: Duration = Duration::from_secs(5);

/// Who visits what, by which session, and what that gives them.
pub(super) struct Visit {
    pub edge: Edge,
    pub instance: Arc<Instance>,
    pub entrance: Arc<Entrance>,
    pub program: Program,
    pub visitor: Visitor,
    pub path: String,
    /// What it gave when it began.
    pub admission: AccessDecision,
    /// The cookie's token, of whoever is known.
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

    /// Whether the instance is used by this visit: what may not wake it does not keep it awake either.
    pub(super) fn counts(&self) -> bool {
        self.admission == AccessDecision::Wakes
    }

    /// Whether the session that opened it still stands, and the path is still open to its visitor.
    pub(super) async fn still_stands(&self) -> bool {
        let known = match (&self.visitor, &self.session) {
            (Visitor::Stranger, _) => true,
            (_, Some(session)) => {
                matches!(self.edge.app.accounts.is_live(&self.entrance.audience, session).await, Ok(true))
            }
            (_, None) => false,
        };
        known && self.admission_now() != AccessDecision::Refused
    }

    /// Waits until it does not stand any more.
    pub(super) async fn over(&self) {
        loop {
            tokio::time::sleep(ASKED_EVERY).await;
            if !self.still_stands().await {
                return;
            }
        }
    }

    /// Wakes the instance for this visit, as long as it may: for strangers so often in an hour.
    pub(super) async fn wake(&self) -> Result<(), EdgeRefusal> {
        if self.admission_now() != AccessDecision::Wakes {
            return Err(EdgeRefusal::AsleepToVisitors(None));
        }
        if self.visitor == Visitor::Stranger && !self.is_on_its_way() {
            self.edge
                .app
                .sharing
                .count_wake(self.instance.id)
                .map_err(|wait| EdgeRefusal::AsleepToVisitors(Some(wait)))?;
        }
        Ok(self.edge.app.instances.wake(&self.instance, Cause::Visit).await?)
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
            if visit.still_stands().await && visit.wake().await.is_err() {
                tracing::debug!(instance.id = %visit.instance.id, "what was under way waits");
            }
        });
    }

    /// The handle of whoever visits, where that is known.
    pub(super) fn user(&self) -> Option<&Handle> {
        match &self.visitor {
            Visitor::Owner => Some(&self.instance.handle),
            Visitor::Guest(handle) => Some(handle),
            Visitor::Stranger => None,
        }
    }

    fn admission_now(&self) -> AccessDecision {
        self.edge.app.sharing.admit(&self.visitor, &self.instance, &self.path)
    }

    fn is_on_its_way(&self) -> bool {
        matches!(
            self.instance.fact(),
            Fact::Awake | Fact::Waking | Fact::Thawing | Fact::Provisioning | Fact::Upgrading
        )
    }
}
