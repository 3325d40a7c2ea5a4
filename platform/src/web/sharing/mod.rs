//! What one opened of one's instance, and to whom.

mod api;
pub mod page;

use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, delete, get, post};

/// What one opened to others.
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
