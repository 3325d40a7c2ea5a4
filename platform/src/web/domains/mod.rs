//! The domains by which one's instance is entered as well.

mod api;
pub mod page;

use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, delete, get, post};

/// Names of one's own.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/domains", Member, page::show),
        post("/domains", Member, page::claim),
        post("/domains/{id}/check", Member, page::check),
        post("/domains/{id}/remove", Member, page::remove),
        get("/api/domains", Member, api::list),
        post("/api/domains", Member, api::claim),
        post("/api/domains/{id}/check", Member, api::check),
        delete("/api/domains/{id}", Member, api::remove),
    ]
}
