//! Permanent redirects (308) from the addresses that pages had in earlier versions, for bookmarks and links in mails.

use axum::http::Uri;
use axum::response::Redirect;
use berth_ground::error::Error;

use super::access::AccessLevel::Public;
use super::route::{Route, get};
use crate::http::problem::HandlerResult;

/// Former addresses and present ones. What follows a former address, and the query, stays.
const MOVED: [(&str, &str); 5] = [
    ("/admin/spend", "/admin/usage"),
    ("/mailbox", "/webhooks"),
    ("/spend", "/usage"),
    ("/leave", "/account/delete"),
    ("/leaving", "/account/deletion"),
];

pub(super) fn routes() -> Vec<Route> {
    // Public: the address that a redirect leads to has its own access level.
    vec![
        get("/admin/spend", Public, redirect),
        get("/mailbox", Public, redirect),
        get("/mailbox/{*path}", Public, redirect),
        get("/spend", Public, redirect),
        get("/spend/{*path}", Public, redirect),
        get("/leave", Public, redirect),
        get("/leave/{*path}", Public, redirect),
        get("/leaving", Public, redirect),
        get("/leaving/{*path}", Public, redirect),
    ]
}

async fn redirect(uri: Uri) -> HandlerResult<Redirect> {
    let moved = MOVED.iter().find_map(|(former, present)| {
        let below = uri.path().strip_prefix(former).filter(|below| below.is_empty() || below.starts_with('/'))?;
        let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
        Some(format!("{present}{below}{query}"))
    });
    Ok(Redirect::permanent(&moved.ok_or(Error::NotFound)?))
}
