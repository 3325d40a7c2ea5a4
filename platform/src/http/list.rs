//! Pagination: the JSON shape of every list of the API, with its items and a link to the next page.

use serde::Serialize;

/// A page of a list. Lists that are short by their own limits have one page.
#[derive(Debug, Serialize)]
pub struct ListView<T> {
    pub items: Vec<T>,
    /// Path and query of the next page, to be requested as it is; `null` on the last page.
    pub next: Option<String>,
    /// The maximum number of items; absent for a list that grows without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
}

impl<T> ListView<T> {
    /// A list with a single page, because an account may have at most `limit` items.
    #[must_use]
    pub fn complete(items: Vec<T>, limit: usize) -> Self {
        Self { items, next: None, limit: Some(limit) }
    }

    /// One page of a list of any length; `next` links to the page after it.
    #[must_use]
    pub fn page(items: Vec<T>, next: Option<String>) -> Self {
        Self { items, next, limit: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_list_has_items_and_next() {
        assert_eq!(json!(ListView::complete(vec![1], 20)), json!({ "items": [1], "next": null, "limit": 20 }));
        let page = ListView::page(vec![2, 3], Some("/api/receipts?before=2".into()));
        assert_eq!(json!(page), json!({ "items": [2, 3], "next": "/api/receipts?before=2" }));
    }
}
