//! Log-in with a passkey, and with a one-time code where a second factor is required; account recovery; log-out.

pub mod page;
pub mod recovery;

use crate::web::access::AccessLevel::{LoggedIn, LoggingIn, Public};
use crate::web::route::{Route, get, post};

/// The routes of logging in and out.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/log-in", Public, page::show),
        post("/log-in/challenge", Public, page::challenge),
        post("/log-in", Public, page::passkey),
        get("/log-in/code", LoggingIn, page::code),
        post("/log-in/code", LoggingIn, page::code_given),
        get("/recover", Public, recovery::recover),
        post("/recover", Public, recovery::recover_with_code),
        post("/log-out", LoggedIn, page::out),
    ]
}
