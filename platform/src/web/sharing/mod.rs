//! Shares: paths of the account's own instance that are open to others.

mod api;
pub mod page;

use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, delete, get, post};

/// The routes of shares.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/sharing", Member, page::show),
        post("/sharing", Member, page::add),
        post("/sharing/{id}/remove", Member, page::remove),
        get("/api/shares", Member, api::list),
        post("/api/shares", Member, api::add),
        delete("/api/shares/{id}", Member, api::remove),
    ]
}
