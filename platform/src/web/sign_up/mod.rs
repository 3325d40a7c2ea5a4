//! Signing up: a handle, a passkey, a one-time-code app, recovery codes; then the instance is made before one's eyes.

mod availability;
pub mod page;
pub mod qr_code;

use crate::web::access::AccessLevel::{Member, Public, SigningUp};
use crate::web::route::{Route, get, post};

/// Signing up: handle, passkey, one-time code, recovery codes.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/sign-up", Public, page::handle),
        post("/sign-up", Public, page::claim),
        get("/sign-up/passkey", SigningUp, page::passkey),
        post("/sign-up/passkey/challenge", SigningUp, page::passkey_challenge),
        post("/sign-up/passkey", SigningUp, page::passkey_made),
        get("/sign-up/code", SigningUp, page::code),
        post("/sign-up/code", SigningUp, page::code_confirmed),
        get("/sign-up/recovery-codes", SigningUp, page::recovery_codes),
        post("/sign-up/finish", SigningUp, page::finish),
        get("/welcome", Member, page::welcome),
        get("/api/handles/{handle}", Public, availability::show),
    ]
}
