//! Who visits, and whether they may: decided here alone, once for each request, before anything wakes.

use std::sync::Arc;

use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::program::Program;
use super::refusal::EdgeRefusal;
use super::visit::Visit;
use super::{Edge, ResolvedHost, cross_origin};
use crate::client;
use crate::cookies;
use crate::sharing::{AccessDecision, Visitor};

impl Edge {
    /// Lets somebody in to that program, or says why not. `None`: nobody known, at what is not open to everyone.
    pub(super) async fn let_in(
        &self,
        called: &ResolvedHost,
        program: Option<&Program>,
        parts: &Parts,
    ) -> Result<Option<Arc<Visit>>, EdgeRefusal> {
        let (sharing, path) = (&self.app.sharing, path_meant(parts));
        // Further ports, and whether there are any, are their owner's alone.
        let is_own = program.is_some_and(|program| program.port.is_none());
        let admit = |visitor: &Visitor| match visitor {
            Visitor::Guest(_) | Visitor::Stranger if !is_own => AccessDecision::Refused,
            visitor => sharing.admit(visitor, &called.instance, path),
        };
        let is_public = admit(&Visitor::Stranger) != AccessDecision::Refused;
        let comes_from_here = cross_origin::comes_from_here(parts, &called.entrance.origin);
        let carries_cookie = cookies::is_there(&parts.headers, cookies::SESSION);
        let visitor = match self.visitor(called, &parts.headers).await? {
            // Sent to log in, it would come back with a third cookie that is not believed either, again and again.
            Visitor::Stranger if !is_public && cookies::is_twice(&parts.headers, cookies::SESSION) => {
                return Err(EdgeRefusal::TwoCookies);
            }
            Visitor::Stranger if !is_public => return Ok(None),
            Visitor::Stranger if !carries_cookie => Visitor::Stranger,
            // Another site's page shows what is open to everyone. It gets that as everyone does, and nobody is named.
            _ if !comes_from_here && is_public && cross_origin::only_looks(parts) => Visitor::Stranger,
            _ if !comes_from_here => return Err(EdgeRefusal::OtherOrigin(called.entrance.origin.clone())),
            visitor => visitor,
        };
        let admission = admit(&visitor);
        match &visitor {
            Visitor::Guest(handle) if admission == AccessDecision::Refused => {
                return Err(EdgeRefusal::NotShared { host: called.entrance.host.clone(), handle: handle.clone() });
            }
            Visitor::Stranger => sharing.count_request(client::address(&parts.headers))?,
            Visitor::Owner | Visitor::Guest(_) => {}
        }
        let session = cookies::get(&parts.headers, cookies::SESSION).filter(|_| visitor != Visitor::Stranger);
        Ok(Some(Arc::new(Visit {
            edge: self.clone(),
            instance: Arc::clone(&called.instance),
            entrance: Arc::clone(&called.entrance),
            program: program.cloned().unwrap_or_default(),
            session: session.map(str::to_owned),
            path: path.to_owned(),
            visitor,
            admission,
        })))
    }

    /// Whose session of this host the request carries.
    pub(super) async fn visitor(&self, called: &ResolvedHost, headers: &HeaderMap) -> Result<Visitor, EdgeRefusal> {
        match cookies::get(headers, cookies::SESSION) {
            Some(token) => self.visitor_with(called, token).await,
            None => Ok(Visitor::Stranger),
        }
    }

    /// Whose session of this host `token` is.
    pub(super) async fn visitor_with(&self, called: &ResolvedHost, token: &str) -> Result<Visitor, EdgeRefusal> {
        let session = self.app.accounts.authenticate(&called.entrance.audience, token).await?;
        Ok(match session {
            Some(session) if session.account == called.instance.account => Visitor::Owner,
            Some(session) => Visitor::Guest(session.handle),
            None => Visitor::Stranger,
        })
    }
}

/// The path that decides. A request that names a second one, to copy or move to (RFC 4918 10.3), is about the whole.
fn path_meant(parts: &Parts) -> &str {
    if parts.headers.contains_key("destination") { "/" } else { parts.uri.path() }
}
