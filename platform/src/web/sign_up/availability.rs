//! Whether a handle can be claimed, as the sign-up page and its live check tell it.

use axum::Json;
use axum::extract::{Path, State};
use serde_json::{Value, json};

use crate::accounts::Availability;
use crate::app::App;
use crate::handle::Handle;
use crate::http::problem::HandlerResult;
use crate::web::extractors::CeremonyToken;

/// `GET /api/handles/{handle}`: whether the handle can be claimed. `note` is a sentence for the person who types it.
pub async fn show(
    State(app): State<App>,
    pending: Option<CeremonyToken>,
    Path(typed): Path<String>,
) -> HandlerResult<Json<Value>> {
    let availability = app.accounts.handle_availability(&typed).await?;
    let held = held(&app, pending.as_ref()).await;
    let (verdict, note, suggestions) = in_words(&typed, availability, held.as_ref());
    Ok(Json(json!({ "available": verdict == "free", "note": note, "suggestions": suggestions })))
}

/// The handle that is reserved by this browser's own sign-up.
pub async fn held(app: &App, pending: Option<&CeremonyToken>) -> Option<Handle> {
    Some(app.accounts.sign_up(&pending?.0).await.ok()?.handle)
}

/// Verdict, sentence and suggestions for a typed handle. `held` is the handle reserved by this browser's own sign-up.
pub fn in_words(typed: &str, availability: Availability, held: Option<&Handle>) -> (&'static str, String, Vec<String>) {
    match availability {
        // The handle is taken by this same browser's sign-up: the person went back a page.
        Availability::Taken { .. } if held.is_some() && Handle::claim(typed).ok().as_ref() == held => {
            ("free", "It is yours already: go on where you were.".into(), Vec::new())
        }
        Availability::Free => ("free", "Free, and yours if you want it.".into(), Vec::new()),
        Availability::Taken { suggestions } => {
            let note = "Somebody has that name, or one that looks just like it.";
            ("bad", note.into(), suggestions.iter().map(ToString::to_string).collect())
        }
        Availability::Bad(why) => ("bad", why.to_string(), Vec::new()),
    }
}
