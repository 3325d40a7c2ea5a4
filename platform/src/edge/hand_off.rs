//! Single sign-on from the app host to an instance's host: a hand-off by a single-use authorization code with PKCE (RFC
//! 7636). Each host has a session cookie of its own; no cookie is shared between hosts.
//!
//! ```text
//! alice.example.com/x  --302-->  app.example.com/hand-off?host&state&challenge
//!     (pending cookie: state, verifier, path)         |  logged in, and may visit?
//! alice.example.com/.berth/callback?code&state  <--303-'
//!     code + state + verifier  ->  session cookie of this host, 303 to /x
//! ```

use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use berth_ground::secrets::Token;
use berth_net::cookies;
use berth_net::peer::Client;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::refusal::EdgeRefusal;
use super::{Edge, ResolvedHost};
use crate::accounts::INSTANCE_SESSION_LIFETIME;
use crate::http::accept::opens_page;
use crate::instances::Cause;
use crate::sharing::Visitor;

/// How long a person may take to log in. Afterwards the pending cookie, which holds the path to return to, expires.
const PENDING_SECONDS: u64 = 30 * 60;
/// The longest path that is remembered over a login; with a longer one the person lands on the front page. The path is
/// stored base64-encoded in a cookie, and browsers limit a cookie to 4 KiB.
const LONGEST_PATH: usize = 1500;

#[derive(Deserialize)]
struct CallbackQuery {
    code: String,
    state: String,
}

impl Edge {
    /// Whether the session of this request is still valid. Does not extend its idle timeout.
    pub(super) async fn session_is_valid(&self, host: &ResolvedHost, headers: &HeaderMap) -> bool {
        let Some(token) = cookies::get(headers, cookies::SESSION) else { return false };
        matches!(self.app.accounts.is_live(&host.virtual_host.audience, token).await, Ok(true))
    }

    /// Redirects a browser to the login and back; answers a program with 401. Wakes nothing.
    pub(super) fn send_to_log_in(&self, host: &ResolvedHost, parts: &Parts) -> Result<Response, EdgeRefusal> {
        if !opens_page(parts) {
            return Err(EdgeRefusal::LogIn);
        }
        let hosts = &self.app.config.hosts;
        let (state, verifier) = (Token::new(&self.app.clock), Token::new(&self.app.clock));
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let path = if path.len() > LONGEST_PATH { "/" } else { path };
        let pending = format!("{}.{}.{}", state.reveal(), verifier.reveal(), URL_SAFE_NO_PAD.encode(path));
        // PKCE (RFC 7636, S256): the code alone is useless to another browser. The verifier stays in the pending
        // cookie, and only its hash travels in the URL, which lands in histories and logs.
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.reveal()));
        let to = format!(
            "{}/hand-off?host={}&state={}&challenge={challenge}",
            hosts.app_origin(),
            host.virtual_host.host,
            state.reveal(),
        );
        let cookie = cookies::set(cookies::PENDING, &pending, PENDING_SECONDS);
        Ok((StatusCode::FOUND, [cookie, (header::LOCATION, url(&to)), NO_STORE]).into_response())
    }

    /// `GET /.berth/callback`: redeems the code that the app host put into the redirect, and sets the session cookie.
    pub(super) async fn callback(
        &self,
        host: &ResolvedHost,
        parts: &Parts,
        client: &Client,
    ) -> Result<Response, EdgeRefusal> {
        let Ok(Query(callback)) = Query::<CallbackQuery>::try_from_uri(&parts.uri) else {
            return Err(EdgeRefusal::NotHere);
        };
        let pending = cookies::get(&parts.headers, cookies::PENDING).and_then(|cookie| {
            let mut parts = cookie.splitn(3, '.');
            Some((parts.next()?, parts.next()?, URL_SAFE_NO_PAD.decode(parts.next()?).ok()?))
        });
        if pending.is_none() && cookies::is_ambiguous(&parts.headers, cookies::PENDING) {
            return Err(EdgeRefusal::TwoCookies);
        }
        if pending.is_none() {
            return Err(EdgeRefusal::NoCookie);
        }
        let session = match &pending {
            // The state binds the callback to the browser that began the hand-off. Without it, login CSRF: a prepared
            // link could log a visitor in to the session of another account.
            Some((state, verifier, _)) if *state == callback.state => {
                let audience_host = &host.virtual_host.host;
                self.app.accounts.hand_off_redeem(audience_host, &callback.code, state, verifier, client).await?
            }
            _ => None,
        };
        let path = pending.and_then(|(_, _, path)| String::from_utf8(path).ok()).filter(|path| is_local(path));
        let path = path.unwrap_or_else(|| "/".into());
        let Some(session) = session else {
            // The code has expired, was used, or belongs to another browser. The front page starts the hand-off again,
            // which succeeds when the person is logged in on the app host.
            return Ok((delete_pending(), Redirect::to("/")).into_response());
        };
        let cookie = cookies::set(cookies::SESSION, session.reveal(), INSTANCE_SESSION_LIFETIME.as_secs());
        let mut response = (StatusCode::SEE_OTHER, [cookie, (header::LOCATION, url(&path)), NO_STORE]).into_response();
        response.headers_mut().append(header::SET_COOKIE, cookies::set(cookies::PENDING, "", 0).1);
        response.headers_mut().insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
        // Prewake: the owner is about to visit, and the instance wakes while the browser follows the redirect. A
        // failure is ignored, because the visit itself wakes again and reports it.
        if self.visitor_with(host, session.reveal()).await? == Visitor::Owner {
            let _ = self.app.instances.wake(&host.instance, Cause::Visit).await;
        }
        Ok(response)
    }
}

const NO_STORE: (header::HeaderName, header::HeaderValue) =
    (header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));

fn delete_pending() -> [(header::HeaderName, header::HeaderValue); 2] {
    [cookies::set(cookies::PENDING, "", 0), NO_STORE]
}

/// Whether the path stays on this host. Prevents open redirects: browsers read `//evil` and `/\evil` as another host.
fn is_local(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\")
}

fn url(text: &str) -> header::HeaderValue {
    header::HeaderValue::from_str(text).unwrap_or(header::HeaderValue::from_static("/"))
}
