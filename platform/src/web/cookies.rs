//! Set-Cookie headers of the app host: ceremony, session and device cookies, and their removal. A cookie lives as long
//! as the token in it.

use axum::http::{HeaderName, HeaderValue};
use axum::response::AppendHeaders;
use berth_ground::secrets::Token;
use berth_net::cookies::{DEVICE, PENDING, SESSION, set};

use crate::accounts::{DEVICE_KNOWN_FOR, LONGEST_SESSION, NewSession, SIGN_UP_LIVES};

/// A Set-Cookie header.
pub(super) type SetCookie = (HeaderName, HeaderValue);

/// The cookie of a ceremony that starts or advances. Its lifetime is that of a sign-up, the longest ceremony;
/// `accounts` expires the others earlier.
pub(super) fn ceremony(token: &Token) -> SetCookie {
    set(PENDING, token.reveal(), SIGN_UP_LIVES.as_secs())
}

/// Removes the cookie of a ceremony.
pub(super) fn ceremony_over() -> SetCookie {
    set(PENDING, "", 0)
}

/// The cookies of a browser that has just signed in, which ends its ceremony.
pub(super) fn signed_in(signed_in: &NewSession) -> AppendHeaders<[SetCookie; 3]> {
    AppendHeaders([
        set(SESSION, signed_in.session.reveal(), LONGEST_SESSION.as_secs()),
        set(DEVICE, signed_in.device.reveal(), DEVICE_KNOWN_FOR.as_secs()),
        // Its token is used up, whichever ceremony it was.
        ceremony_over(),
    ])
}

/// Removes the session cookie. The device cookie stays, so the next log-in from this browser needs no one-time code.
pub(super) fn logged_out() -> SetCookie {
    set(SESSION, "", 0)
}
