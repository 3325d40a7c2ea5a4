//! Availability of handles, for the sign-up page and its live check.

use axum::Json;
use axum::extract::{Path, State};
use berth_ground::handle::Handle;
use serde_json::{Value, json};

use crate::accounts::HandleAvailability;
use crate::app::App;
use crate::http::problem::HandlerResult;
use crate::web::extractors::CeremonyToken;

/// `GET /api/handles/{handle}`: whether the handle can be claimed. `note` is a sentence for the person who types it.
pub async fn show(
    State(app): State<App>,
    pending: Option<CeremonyToken>,
    Path(typed): Path<String>,
) -> HandlerResult<Json<Value>> {
    let availability = app.accounts.handle_availability(&typed).await?;
    // An expired or invalid token simply has no reservation: the check is public.
    let reserved = reserved_handle(&app, pending.as_ref()).await;
    let HandleVerdict { verdict, note, suggestions } = HandleVerdict::of(&typed, availability, reserved.as_ref());
    Ok(Json(json!({ "available": verdict == "free", "note": note, "suggestions": suggestions })))
}

/// The handle that is reserved by this browser's own sign-up.
pub async fn reserved_handle(app: &App, pending: Option<&CeremonyToken>) -> Option<Handle> {
    Some(app.accounts.sign_up(&pending?.0).await.ok()?.handle)
}

/// The verdict on a typed handle, with a sentence for the person who types it.
pub struct HandleVerdict {
    /// `free` or `bad`.
    pub verdict: &'static str,
    /// A sentence.
    pub note: String,
    /// Similar handles that are free.
    pub suggestions: Vec<String>,
}

impl HandleVerdict {
    /// `reserved` is the handle reserved by this browser's own sign-up.
    pub fn of(typed: &str, availability: HandleAvailability, reserved: Option<&Handle>) -> Self {
        match availability {
            // The handle is reserved by this same browser's sign-up: the user went back a page.
            HandleAvailability::Taken { .. }
                if reserved.is_some() && Handle::claim(typed).ok().as_ref() == reserved =>
            {
                Self::free("It is yours already: continue where you left off.")
            }
            HandleAvailability::Free => Self::free("This handle is free."),
            HandleAvailability::Taken { suggestions } => Self {
                verdict: "bad",
                note: "This handle, or one that looks just like it, is taken.".into(),
                suggestions: suggestions.iter().map(ToString::to_string).collect(),
            },
            HandleAvailability::Invalid(why) => Self { verdict: "bad", note: why.to_string(), suggestions: Vec::new() },
        }
    }

    fn free(note: &str) -> Self {
        Self { verdict: "free", note: note.into(), suggestions: Vec::new() }
    }
}
