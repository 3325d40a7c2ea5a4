//! The two pages the edge shows on instances' hosts.

use axum::response::{Html, IntoResponse, Response};

use crate::instances::Stage;

/// Shown while the instance wakes; turns into the instance by itself.
pub(super) struct WaitingPage {
    pub handle: String,
    pub stage: Stage,
    pub failure: Option<String>,
    pub app_origin: String,
}

/// Says why not, and where to go.
pub(super) struct MessagePage {
    pub title: String,
    pub message: String,
    pub link: Option<String>,
    pub label: Option<String>,
}

impl IntoResponse for WaitingPage {
    fn into_response(self) -> Response {
        Html(format!("{}{:?}{:?}{}", self.handle, self.stage, self.failure, self.app_origin)).into_response()
    }
}
impl IntoResponse for MessagePage {
    fn into_response(self) -> Response {
        Html(format!("{}{}{:?}{:?}", self.title, self.message, self.link, self.label)).into_response()
    }
}
