//! A session on the instance's own host, its owner's or a guest's: a hand-off from the app host by a code for one use, never a
//! shared cookie.
//!
//! ```text
//! alice.example.com/x  --302-->  app.example.com/hand-off?host&state&challenge
//!     (pending cookie: state, verifier, path)         |  logged in, and may enter?
//! alice.example.com/.berth/callback?code&state  <--303-'
//!     code + state + verifier  ->  session cookie of this host, 303 to /x
//! ```

use axum::extract::Query;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::refusal::EdgeRefusal;
use super::{Edge, ResolvedHost, opens_page};
use crate::accounts::INSTANCE_SESSION_LIVES;
use crate::client::Client;
use crate::cookies;
use crate::instances::Cause;
use crate::secrets::Token;
use crate::sharing::Visitor;

/// How long a person may take to log in before the way back is forgotten.
const PENDING_SECONDS: u64 = 30 * 60;
/// Longer paths are not remembered over a login; the person lands on the front page.
const LONGEST_PATH: usize = 1500;

#[derive(Deserialize)]
struct CallbackQuery {
    code: String,
    state: String,
}

impl Edge {
    /// Whether the session of this request still stands. Asking is no use of it.
    pub(super) async fn still_stands(&self, called: &ResolvedHost, headers: &HeaderMap) -> bool {
        let Some(token) = cookies::get(headers, cookies::SESSION) else { return false };
        matches!(self.app.accounts.is_live(&called.entrance.audience, token).await, Ok(true))
    }

    /// Sends a person to log in and come back; tells a program that it must. Nothing wakes.
    pub(super) fn send_to_log_in(&self, called: &ResolvedHost, parts: &Parts) -> Result<Response, EdgeRefusal> {
        if !opens_page(parts) {
            return Err(EdgeRefusal::LogIn);
        }
        let hosts = &self.app.config.hosts;
        let (state, verifier) = (Token::new(&self.app.clock), Token::new(&self.app.clock));
        let path = parts.uri.path_and_query().map_or("/", |p| p.as_str());
        let path = if path.len() > LONGEST_PATH { "/" } else { path };
        let pending = format!("{}.{}.{}", state.reveal(), verifier.reveal(), URL_SAFE_NO_PAD.encode(path));
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier.reveal()));
        let to = format!(
            "{}/hand-off?host={}&state={}&challenge={challenge}",
            hosts.app_origin(),
            called.entrance.host,
            state.reveal(),
        );
        let cookie = cookies::set(cookies::PENDING, &pending, PENDING_SECONDS);
        Ok((StatusCode::FOUND, [cookie, (header::LOCATION, url(&to)), NO_STORE]).into_response())
    }

    /// Takes the code that the app host sent back with.
    pub(super) async fn callback(
        &self,
        called: &ResolvedHost,
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
        if pending.is_none() && cookies::is_twice(&parts.headers, cookies::PENDING) {
            return Err(EdgeRefusal::TwoCookies);
        }
        if pending.is_none() {
            return Err(EdgeRefusal::NoCookie);
        }
        let session = match &pending {
            Some((state, verifier, _)) if *state == callback.state => {
                let host = &called.entrance.host;
                self.app.accounts.hand_off_redeem(host, &callback.code, state, verifier, client).await?
            }
            _ => None,
        };
        let path = pending.and_then(|(_, _, path)| String::from_utf8(path).ok()).filter(|path| is_local(path));
        let path = path.unwrap_or_else(|| "/".into());
        let Some(session) = session else {
            // Too late, used already, or begun in another browser: the front page begins again, and ends well when
            // the person is logged in on the app host.
            return Ok((cookies_off(), Redirect::to("/")).into_response());
        };
        let cookie = cookies::set(cookies::SESSION, session.reveal(), INSTANCE_SESSION_LIVES.as_secs());
        let mut response = (StatusCode::SEE_OTHER, [cookie, (header::LOCATION, url(&path)), NO_STORE]).into_response();
        response.headers_mut().append(header::SET_COOKIE, cookies::set(cookies::PENDING, "", 0).1);
        response.headers_mut().insert(header::REFERRER_POLICY, header::HeaderValue::from_static("no-referrer"));
        // The owner is about to visit: waking begins while the browser follows the redirect.
        if self.visitor_with(called, session.reveal()).await? == Visitor::Owner {
            let _ = self.app.instances.wake(&called.instance, Cause::Visit).await;
        }
        Ok(response)
    }
}

const NO_STORE: (header::HeaderName, header::HeaderValue) =
    (header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));

fn cookies_off() -> [(header::HeaderName, header::HeaderValue); 2] {
    [cookies::set(cookies::PENDING, "", 0), NO_STORE]
}

/// A path on this host: one slash first, so that no browser reads `//evil` as another host.
fn is_local(path: &str) -> bool {
    path.starts_with('/') && !path.starts_with("//") && !path.starts_with("/\\")
}

fn url(text: &str) -> header::HeaderValue {
    header::HeaderValue::from_str(text).unwrap_or(header::HeaderValue::from_static("/"))
}
