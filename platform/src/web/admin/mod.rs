//! The operator's pages: users, usage, limits and credit, prices, repricing, reconciliation with a provider bill.

pub mod bill_comparison;
pub mod limits;
pub mod prices;
pub mod repricing;
pub mod usage;
pub mod users;

use crate::web::access::AccessLevel::Admin;
use crate::web::route::{Route, get, post};

/// The routes of the operator's pages.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/admin", Admin, users::show),
        post("/admin/instances/{handle}/stop", Admin, users::stop),
        get("/admin/usage", Admin, usage::show),
        get("/admin/users/{handle}", Admin, limits::account),
        post("/admin/users/{handle}/limits", Admin, limits::set_limits),
        post("/admin/users/{handle}/credit", Admin, limits::give_credit),
        post("/admin/bill-comparison", Admin, bill_comparison::compare),
        get("/admin/prices", Admin, prices::show),
        post("/admin/prices", Admin, prices::take_in).with_bodies_of(prices::FORM_BYTES),
        get("/admin/prices/{version}", Admin, prices::version),
        post("/admin/prices/{version}/activate", Admin, prices::put_in_force),
        get("/admin/prices/{version}/repricing", Admin, repricing::look),
        post("/admin/prices/{version}/repricing", Admin, repricing::change),
    ]
}
