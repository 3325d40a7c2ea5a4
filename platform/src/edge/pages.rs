//! The two HTML pages that the edge shows on instances' hosts. Their assets come from `/.berth/assets/` of the same
//! host.

use askama::Template;
use axum::response::{IntoResponse, Response};

use crate::http::format::{self, WakeStep};
use crate::http::headers;
use crate::http::page::Page;
use crate::instances::WakeStage;

/// Shown while the instance wakes. It loads the instance by itself.
#[derive(Template)]
#[template(path = "edge/waiting.html")]
pub struct WaitingPage {
    pub handle: String,
    /// The full address, which a browser without scripts loads again. A refresh without an address would not do: at a
    /// URL with a fragment it navigates to that fragment of the current page (WHATWG HTML, "navigate"), and waits for
    /// ever.
    pub address: String,
    pub stage: WakeStage,
    pub failure: Option<String>,
    /// The owner's link back. `None` for other visitors, who see progress only as the page reloads, and not why it
    /// failed.
    pub dashboard: Option<String>,
}

/// A refusal in words, with a link to go on.
#[derive(Template)]
#[template(path = "edge/message.html")]
pub struct MessagePage {
    pub title: String,
    pub message: String,
    pub link: Option<String>,
    pub label: Option<String>,
}

impl WaitingPage {
    /// The status still says `Ready` from the last wake until the next one has begun.
    fn steps(&self) -> [WakeStep; 4] {
        format::steps(if self.stage == WakeStage::Ready { WakeStage::Asked } else { self.stage })
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
