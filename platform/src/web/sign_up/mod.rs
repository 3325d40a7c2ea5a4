//! Sign-up: handle, passkey, one-time-code app (TOTP) and recovery codes, then a page that shows how the instance is
//! created.

mod availability;
pub mod page;
pub mod qr_code;

use crate::web::access::AccessLevel::{Member, Public, SigningUp};
use crate::web::route::{Route, get, post};

/// The routes of signing up, in the order of its steps.
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
