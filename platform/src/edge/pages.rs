//! The two pages the edge shows on instances' hosts. Their assets come from `/.berth/assets/` of the same host.

use askama::Template;
use axum::response::{IntoResponse, Response};

use crate::http::format::{self, WakeStep};
use crate::http::headers;
use crate::http::page::Page;
use crate::instances::Stage;

/// Shown while the instance wakes; turns into the instance by itself.
#[derive(Template)]
#[template(path = "edge/waiting.html")]
pub struct WaitingPage {
    pub handle: String,
    /// Where a browser without scripts asks again. Said outright: without it, one that is at a fragment would be sent to that
    /// fragment of the page it has (WHATWG HTML, "navigate"), and wait for ever.
    pub address: String,
    pub stage: Stage,
    pub failure: Option<String>,
    /// Its owner's way back. Without it a visitor waits, who sees how far it is when the page loads itself again, and not why it
    /// failed.
    pub dashboard: Option<String>,
}

/// Says why not, and where to go.
#[derive(Template)]
#[template(path = "edge/message.html")]
pub struct MessagePage {
    pub title: String,
    pub message: String,
    pub link: Option<String>,
    pub label: Option<String>,
}

impl WaitingPage {
    /// The stage of the last wake stays `Ready` until the next one has begun.
    fn steps(&self) -> [WakeStep; 4] {
        format::steps(if self.stage == Stage::Ready { Stage::Asked } else { self.stage })
    }
}

impl IntoResponse for WaitingPage {
    fn into_response(self) -> Response {
        headers::on_instance(Page(self).into_response())
    }
}

impl IntoResponse for MessagePage {
    fn into_response(self) -> Response {
        headers::on_instance(Page(self).into_response())
    }
}
