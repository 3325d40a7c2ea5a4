//! A visit: one authorized request or connection. Revalidates its session and share while it lasts, and wakes the
//! instance for it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::Uri;
use berth_ground::handle::Handle;
use berth_net::hosts::VirtualHost;

use super::program::Program;
use super::refusal::EdgeRefusal;
use crate::app::App;
use crate::instances::{Cause, Fact, Instance, Wish};
use crate::sharing::{AccessDecision, Visitor};

/// How often an open stream or connection is revalidated: the longest that it can outlive a logout or a withdrawn
/// share.
pub(super) const REVALIDATE_EVERY: Duration = Duration::from_secs(5);

/// The visitor, the instance and program they visit, their session, and their access.
pub(super) struct Visit {
    pub app: Arc<App>,
    pub instance: Arc<Instance>,
    pub virtual_host: Arc<VirtualHost>,
    pub program: Program,
    pub visitor: Visitor,
    pub path: String,
    /// The visitor's access, as decided when the visit began.
    pub admission: AccessDecision,
    /// The token of the session cookie. `None` for a stranger.
    pub session: Option<String>,
}

impl Visit {
    /// The address and port of the visited program.
    pub(super) fn socket(&self) -> SocketAddr {
        self.program.socket(&self.instance)
    }

    /// The full URL that was requested. Without a fragment, which browsers never send.
    pub(super) fn address(&self, target: &Uri) -> String {
        let prefix = self.program.prefix.as_deref().unwrap_or_default();
        format!("{}{prefix}{}", self.virtual_host.origin, target.path_and_query().map_or("/", |path| path.as_str()))
    }

    /// Whether this visit counts as activity. A visitor who may not wake the instance does not keep it awake either.
    pub(super) fn counts_as_activity(&self) -> bool {
        self.admission == AccessDecision::Wakes
    }

    /// Whether the session is still valid and the path still shared with the visitor. Fails closed.
    pub(super) async fn is_valid(&self) -> bool {
        let session_is_valid = match (&self.visitor, &self.session) {
            // A stranger has no session; only the share can end.
            (Visitor::Stranger, _) => true,
            (_, Some(session)) => {
                // Fails closed: when the database does not answer, open connections end.
                matches!(self.app.accounts.is_live(&self.virtual_host.audience, session).await, Ok(true))
            }
            (_, None) => false,
        };
        session_is_valid && self.access_now() != AccessDecision::Refused
    }

    /// Completes when the visit is no longer valid, up to [`REVALIDATE_EVERY`] later.
    pub(super) async fn ended(&self) {
        loop {
            tokio::time::sleep(REVALIDATE_EVERY).await;
            if !self.is_valid().await {
                return;
            }
        }
    }

    /// Wakes the instance for this visit. Does not wait until the instance is awake.
    ///
    /// # Errors
    /// When this visitor may not wake the instance, or strangers have woken it too often in the last hour.
    pub(super) async fn wake(&self) -> Result<(), EdgeRefusal> {
        // Access is decided anew: a long-lived connection may wake the instance long after the visit began.
        if self.access_now() != AccessDecision::Wakes {
            return Err(EdgeRefusal::AsleepToVisitors(None));
        }
        // A visit to an instance that is already waking consumes nothing of the strangers' rate limit.
        if self.visitor == Visitor::Stranger && !self.is_waking_or_awake() {
            self.app.sharing.count_wake(self.instance.id).map_err(|wait| EdgeRefusal::AsleepToVisitors(Some(wait)))?;
        }
        Ok(self.app.instances.wake(&self.instance, Cause::Visit).await?)
    }

    /// Wakes an instance that fell asleep by idle timeout, so that an open transfer can continue. Returns at once.
    ///
    /// An instance that its owner put to sleep stays asleep until the next request. A stopped instance has lost the
    /// connection, and waking it would not restore the transfer.
    pub(super) fn wake_in_background(self: &Arc<Self>) {
        let asleep = matches!(self.instance.fact(), Fact::Freezing | Fact::Frozen);
        if !asleep || self.instance.status().wish != Wish::Available {
            return;
        }
        let visit = Arc::clone(self);
        // The task is detached because the caller is a poll function and cannot await. It ends after one database read
        // and one nudge of the reconciler. It is started for a piece of data that moves while the instance sleeps; then
        // nothing moves until the instance is awake, which bounds the tasks. Duplicates are harmless: waking is
        // idempotent.
        tokio::spawn(async move {
            if visit.is_valid().await && visit.wake().await.is_err() {
                tracing::debug!(instance.id = %visit.instance.id, "a transfer waits for an instance that could not be woken");
            }
        });
    }

    /// The handle of the visitor; `None` for a stranger.
    pub(super) fn user(&self) -> Option<&Handle> {
        match &self.visitor {
            Visitor::Owner => Some(&self.instance.handle),
            Visitor::Guest(handle) => Some(handle),
            Visitor::Stranger => None,
        }
    }

    fn access_now(&self) -> AccessDecision {
        self.app.sharing.decide_access(&self.visitor, &self.instance, &self.path)
    }

    fn is_waking_or_awake(&self) -> bool {
        matches!(
            self.instance.fact(),
            Fact::Awake | Fact::Waking | Fact::Thawing | Fact::Provisioning | Fact::Upgrading
        )
    }
}
