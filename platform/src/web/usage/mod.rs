//! AI usage: remaining budget, sums by day, model and agent, and receipts.

mod api;
pub mod budget_view;
pub mod charts;
pub mod page;
mod receipt_export;
pub mod receipt_view;
pub mod receipts;
pub mod sums;
pub mod usage_card;

use crate::web::access::AccessLevel::Member;
use crate::web::route::{Route, get};

/// The routes of usage and receipts.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/usage", Member, page::show),
        get("/usage/receipts", Member, receipts::list),
        get("/usage/receipts/{id}", Member, receipts::show),
        get("/usage/export", Member, receipt_export::export),
        get("/api/usage", Member, api::usage),
        get("/api/receipts", Member, api::receipts),
        get("/api/receipts/key", Member, api::key),
        get("/api/receipts/{id}", Member, api::receipt),
    ]
}
