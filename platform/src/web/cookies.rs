//! The cookies of the app host: for a ceremony under way, for a login, and their end. They live as long as what they stand for.

use axum::http::{HeaderName, HeaderValue};
use axum::response::AppendHeaders;

use crate::accounts::{DEVICE_KNOWN_FOR, LONGEST_SESSION, NewSession, SIGN_UP_LIVES};
use crate::cookies::{DEVICE, PENDING, SESSION, set};
use crate::secrets::Token;

/// A Set-Cookie.
pub(super) type Cookie = (HeaderName, HeaderValue);

/// Of a ceremony that begins or goes on. Signing up takes longest; `accounts` ends the others earlier.
pub(super) fn ceremony(token: &Token) -> Cookie {
    set(PENDING, token.reveal(), SIGN_UP_LIVES.as_secs())
}

/// The ceremony is over.
pub(super) fn ceremony_over() -> Cookie {
    set(PENDING, "", 0)
}

/// Of somebody who has just been let in, which ends the ceremony.
pub(super) fn signed_in(signed_in: &NewSession) -> AppendHeaders<[Cookie; 3]> {
    AppendHeaders([
        set(SESSION, signed_in.session.reveal(), LONGEST_SESSION.as_secs()),
        set(DEVICE, signed_in.device.reveal(), DEVICE_KNOWN_FOR.as_secs()),
        ceremony_over(),
    ])
}

/// Of somebody who logged out; the browser is still known.
pub(super) fn logged_out() -> Cookie {
    set(SESSION, "", 0)
}
