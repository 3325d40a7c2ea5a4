//! The two HTML pages that the edge shows on instances' hosts. Their assets come from `/.berth/assets/` of the same
//! host.

use askama::Template;
use axum::response::{IntoResponse, Response};

use crate::http::format::{self, WakeStep};
use crate::http::headers;
use crate::http::page::Page;
use crate::instances::WakeStage;

/// Shown while the instance wakes. The page loads the instance once it is awake.
#[derive(Template)]
#[template(path = "edge/waiting.html")]
pub struct WaitingPage {
    pub handle: String,
    /// The full address, which the page reloads in browsers without scripts. A `Refresh` without an address does not
    /// work: at a URL with a fragment it navigates to that fragment of the current page (WHATWG HTML, "navigate"), so
    /// the page never reloads.
    pub address: String,
    pub stage: WakeStage,
    pub failure: Option<String>,
    /// The link to the owner's dashboard. `None` for other visitors: their page reloads to show progress, and does not
    /// say why a wake failed.
    pub dashboard: Option<String>,
}

/// A refusal as a sentence, with a link to continue.
#[derive(Template)]
#[template(path = "edge/message.html")]
pub struct MessagePage {
    pub title: String,
    pub message: String,
    pub link: Option<String>,
    pub label: Option<String>,
}

impl WaitingPage {
    /// `stage` stays `Ready` from the last wake until the next wake begins; such a status is shown as `Asked`.
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
