//! Custom domains: further hostnames that lead to the account's instance.

mod api;
pub mod page;

use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, delete, get, post};

/// The routes of custom domains.
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
