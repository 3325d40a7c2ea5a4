//! Authorization: identifies the visitor of a request and decides whether they may pass. The only place that decides
//! it; runs once for each request, before the instance wakes.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::request::Parts;
use berth_net::cookies;
use berth_net::peer;

use super::program::Program;
use super::refusal::EdgeRefusal;
use super::visit::Visit;
use super::{Edge, ResolvedHost, cross_origin};
use crate::sharing::{AccessDecision, Visitor};

impl Edge {
    /// Authorizes a request to `program`. `program` is `None` while the port is unknown: a closed port, or a path that
    /// is about to be redirected. Returns `None` for a visitor who is not logged in and a path that is not public.
    pub(super) async fn authorize(
        self: &Arc<Self>,
        host: &ResolvedHost,
        program: Option<&Program>,
        parts: &Parts,
    ) -> Result<Option<Arc<Visit>>, EdgeRefusal> {
        let (sharing, path) = (&self.app.sharing, deciding_path(parts));
        // Further ports are for the owner alone, and so is the knowledge whether any is open: only the program on the
        // contract's port can be shared.
        let is_own = program.is_some_and(|program| program.port.is_none());
        let admit = |visitor: &Visitor| match visitor {
            Visitor::Guest(_) | Visitor::Stranger if !is_own => AccessDecision::Refused,
            visitor => sharing.decide_access(visitor, &host.instance, path),
        };
        let is_public = admit(&Visitor::Stranger) != AccessDecision::Refused;
        let origin_allowed = cross_origin::is_allowed(parts, &host.virtual_host.origin);
        let has_cookie = cookies::is_present(&parts.headers, cookies::SESSION);
        let visitor = match self.visitor(host, &parts.headers).await? {
            // Two session cookies: a script of this host planted the second. A redirect to the login would only add a
            // third that is ambiguous as well: an endless redirect loop.
            Visitor::Stranger if !is_public && cookies::is_ambiguous(&parts.headers, cookies::SESSION) => {
                return Err(EdgeRefusal::TwoCookies);
            }
            Visitor::Stranger if !is_public => return Ok(None),
            Visitor::Stranger if !has_cookie => Visitor::Stranger,
            // CSRF: a page of another site sends the visitor's cookie along. It may read public paths, as anyone may,
            // but not with the visitor's identity.
            _ if !origin_allowed && is_public && cross_origin::is_read_only(parts) => Visitor::Stranger,
            _ if !origin_allowed => return Err(EdgeRefusal::OtherOrigin(host.virtual_host.origin.clone())),
            visitor => visitor,
        };
        let admission = admit(&visitor);
        match &visitor {
            Visitor::Guest(handle) if admission == AccessDecision::Refused => {
                return Err(EdgeRefusal::NotShared { host: host.virtual_host.host.clone(), handle: handle.clone() });
            }
            // A stranger's requests are rate limited by address, before the instance sees any of them.
            Visitor::Stranger => sharing.count_request(peer::address(&parts.headers))?,
            Visitor::Owner | Visitor::Guest(_) => {}
        }
        // The token is kept to revalidate the session later. A visitor who is treated as a stranger has no session.
        let session = cookies::get(&parts.headers, cookies::SESSION).filter(|_| visitor != Visitor::Stranger);
        Ok(Some(Arc::new(Visit {
            app: Arc::clone(&self.app),
            instance: Arc::clone(&host.instance),
            virtual_host: Arc::clone(&host.virtual_host),
            program: program.cloned().unwrap_or_default(),
            session: session.map(str::to_owned),
            path: path.to_owned(),
            visitor,
            admission,
        })))
    }

    /// The visitor, identified by this host's session cookie.
    pub(super) async fn visitor(&self, host: &ResolvedHost, headers: &HeaderMap) -> Result<Visitor, EdgeRefusal> {
        match cookies::get(headers, cookies::SESSION) {
            Some(token) => self.visitor_with(host, token).await,
            None => Ok(Visitor::Stranger),
        }
    }

    /// The visitor to whom the session `token` belongs. A token of another host is rejected: each session has one
    /// audience.
    pub(super) async fn visitor_with(&self, host: &ResolvedHost, token: &str) -> Result<Visitor, EdgeRefusal> {
        let session = self.app.accounts.authenticate(&host.virtual_host.audience, token).await?;
        Ok(match session {
            Some(session) if session.account == host.instance.account => Visitor::Owner,
            Some(session) => Visitor::Guest(session.handle),
            None => Visitor::Stranger,
        })
    }
}

/// The path that is looked up in the shares. A WebDAV request with a `Destination` header (COPY or MOVE, RFC 4918 10.3)
/// names a second path. It needs access to `/`, so that a share of one path never allows a write to another.
fn deciding_path(parts: &Parts) -> &str {
    if parts.headers.contains_key("destination") { "/" } else { parts.uri.path() }
}
