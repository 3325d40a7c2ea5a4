//! Every route of the platform's pages and API, in one table: method, path, who may come in, what answers.
//! The router is built from it, and so are the tests that send every role through every door.

use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{self, MethodRouter};

use super::Access::{Admin, HalfIn, LoggedIn, Member, Public, SigningUp};
use super::{
    Access, admin, admin_limits, admin_prices, admin_rerating, admin_spend, alarms, api, api_domains, api_mailbox,
    api_sharing, api_spend, dashboard, domains, hand_off, instances, landing, leaving, log_in, mailbox, own_keys,
    passkeys, ports, receipts, sessions, sharing, sign_up, spend,
};
use crate::app::App;
use crate::http::assets;

/// One row of the table.
pub struct Route {
    pub method: Method,
    /// As axum writes it, `{id}` for a part that varies.
    pub path: &'static str,
    pub access: Access,
    pub(super) handler: MethodRouter<App>,
}

impl Route {
    /// The same for bodies of up to so many bytes.
    fn with_bodies_of(self, bytes: usize) -> Self {
        Self { handler: self.handler.layer(DefaultBodyLimit::max(bytes)), ..self }
    }
}

/// The routes of the apex, where nobody has a session.
#[must_use]
pub fn apex() -> Vec<Route> {
    vec![
        get("/", Public, landing::show),
        get("/awake", Public, landing::awake),
        get("/assets/{*path}", Public, assets::show),
    ]
}

/// The routes of the app host.
#[must_use]
pub fn app() -> Vec<Route> {
    vec![
        get("/assets/{*path}", Public, assets::show),
        // Signing up: handle, passkey, one-time code, recovery codes.
        get("/sign-up", Public, sign_up::handle),
        post("/sign-up", Public, sign_up::claim),
        get("/sign-up/passkey", SigningUp, sign_up::passkey),
        post("/sign-up/passkey/challenge", SigningUp, sign_up::passkey_challenge),
        post("/sign-up/passkey", SigningUp, sign_up::passkey_made),
        get("/sign-up/code", SigningUp, sign_up::code),
        post("/sign-up/code", SigningUp, sign_up::code_confirmed),
        get("/sign-up/recovery-codes", SigningUp, sign_up::recovery_codes),
        post("/sign-up/finish", SigningUp, sign_up::finish),
        get("/welcome", Member, sign_up::welcome),
        // Logging in and out.
        get("/log-in", Public, log_in::show),
        post("/log-in/challenge", Public, log_in::challenge),
        post("/log-in", Public, log_in::passkey),
        get("/log-in/code", HalfIn, log_in::code),
        post("/log-in/code", HalfIn, log_in::code_given),
        get("/recover", Public, log_in::recover),
        post("/recover", Public, log_in::recover_with_code),
        post("/log-out", LoggedIn, log_in::out),
        get("/hand-off", Member, hand_off::show),
        post("/hand-off", Member, hand_off::agree),
        // One's own account and instance.
        get("/", Member, dashboard::show),
        get("/instance/events", Member, instances::events),
        post("/instance/wake", Member, instances::wake),
        post("/instance/sleep", Member, instances::sleep),
        post("/instance/stop", Member, instances::stop),
        post("/instance/upgrade", Member, instances::upgrade),
        post("/instance/ports", Member, ports::set),
        post("/sessions/{id}/end", Member, sessions::end),
        get("/passkeys", Member, passkeys::list),
        post("/passkeys/challenge", Member, passkeys::challenge),
        post("/passkeys", Member, passkeys::add),
        post("/passkeys/{id}/remove", Member, passkeys::remove),
        post("/recovery-codes", Member, passkeys::new_recovery_codes),
        // Leaving, and staying after all.
        get("/leave", Member, leaving::ask),
        post("/leave", Member, leaving::leave),
        get("/leaving", LoggedIn, leaving::show),
        post("/leaving/stay", LoggedIn, leaving::stay),
        // What one's AI calls cost.
        get("/spend", Member, spend::show),
        get("/spend/receipts", Member, receipts::list),
        get("/spend/receipts/{id}", Member, receipts::show),
        get("/spend/export", Member, receipts::export),
        // One's own keys at the providers.
        get("/own-keys", Member, own_keys::show),
        post("/own-keys/{provider}", Member, own_keys::set),
        post("/own-keys/{provider}/remove", Member, own_keys::remove),
        // What waits for one's instance.
        get("/mailbox", Member, mailbox::show),
        post("/mailbox/paths", Member, mailbox::open),
        post("/mailbox/paths/close", Member, mailbox::close),
        post("/mailbox/letters/{id}/retry", Member, mailbox::retry),
        post("/mailbox/letters/{id}/discard", Member, mailbox::discard),
        post("/alarms/{name}/delete", Member, alarms::delete),
        // What one opened to others.
        get("/sharing", Member, sharing::show),
        post("/sharing", Member, sharing::add),
        post("/sharing/{id}/remove", Member, sharing::remove),
        // Names of one's own.
        get("/domains", Member, domains::show),
        post("/domains", Member, domains::claim),
        post("/domains/{id}/check", Member, domains::check),
        post("/domains/{id}/remove", Member, domains::remove),
        // The operator.
        get("/admin", Admin, admin::show),
        post("/admin/instances/{handle}/stop", Admin, admin::stop),
        get("/admin/spend", Admin, admin_spend::show),
        get("/admin/spend/{handle}", Admin, admin_limits::account),
        post("/admin/spend/{handle}/limits", Admin, admin_limits::set_limits),
        post("/admin/spend/{handle}/credit", Admin, admin_limits::give_credit),
        post("/admin/compare", Admin, admin_spend::compare),
        get("/admin/prices", Admin, admin_prices::show),
        post("/admin/prices", Admin, admin_prices::take_in).with_bodies_of(admin_prices::FORM_BYTES),
        get("/admin/prices/{version}", Admin, admin_prices::version),
        post("/admin/prices/{version}/use", Admin, admin_prices::put_in_force),
        get("/admin/prices/{version}/rerate", Admin, admin_rerating::look),
        post("/admin/prices/{version}/rerate", Admin, admin_rerating::change),
        // For programs.
        get("/api/account", Member, api::account),
        get("/api/instance", Member, api::instance),
        post("/api/instance/wake", Member, api::wake),
        post("/api/instance/sleep", Member, api::sleep),
        post("/api/instance/stop", Member, api::stop),
        post("/api/instance/upgrade", Member, api::upgrade),
        get("/api/instance/ports", Member, ports::show),
        post("/api/instance/ports", Member, ports::replace),
        get("/api/spend", Member, api_spend::spend),
        get("/api/receipts", Member, api_spend::receipts),
        get("/api/receipts/key", Member, api_spend::key),
        get("/api/receipts/{id}", Member, api_spend::receipt),
        get("/api/mailbox", Member, api_mailbox::show),
        post("/api/mailbox/paths", Member, api_mailbox::open),
        post("/api/mailbox/paths/close", Member, api_mailbox::close),
        post("/api/mailbox/letters/{id}/retry", Member, api_mailbox::retry),
        post("/api/mailbox/letters/{id}/discard", Member, api_mailbox::discard),
        get("/api/alarms", Member, api_mailbox::alarms),
        post("/api/alarms/{name}/delete", Member, api_mailbox::delete_alarm),
        get("/api/shares", Member, api_sharing::list),
        post("/api/shares", Member, api_sharing::add),
        post("/api/shares/{id}/remove", Member, api_sharing::remove),
        get("/api/domains", Member, api_domains::list),
        post("/api/domains", Member, api_domains::claim),
        post("/api/domains/{id}/check", Member, api_domains::check),
        post("/api/domains/{id}/remove", Member, api_domains::remove),
        get("/api/handles/{handle}", Public, api::handle),
    ]
}

fn get<H, T>(path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    Route { method: Method::GET, path, access, handler: routing::get(handler) }
}

fn post<H, T>(path: &'static str, access: Access, handler: H) -> Route
where
    H: Handler<T, App>,
    T: 'static,
{
    Route { method: Method::POST, path, access, handler: routing::post(handler) }
}
