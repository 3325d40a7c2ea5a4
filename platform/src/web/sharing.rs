//! What one opened of one's instance, and to whom.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;

use super::extractors::Mine;
use crate::accounts::Session;
use crate::app::App;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};
use crate::instances::Instance;
use crate::sharing::{MOST_SHARES, Share, ShareAudience, ShareId};

#[derive(Template)]
#[template(path = "dashboard/sharing.html")]
pub struct SharingPage {
    pub handle: String,
    pub is_admin: bool,
    pub shares: Vec<ShareRow>,
    pub most: usize,
    pub may_add: bool,
    pub typed: Typed,
    /// What is wrong with what was typed, and the field to blame; empty when nothing is.
    pub note: String,
    pub field: &'static str,
}

/// One share.
pub struct ShareRow {
    pub id: String,
    /// The whole address.
    pub address: String,
    pub path: String,
    pub to: String,
}

/// The form as it was sent.
#[derive(Deserialize)]
pub struct Typed {
    #[serde(default)]
    pub path: String,
    /// `account`, `signed_in` or `everyone`.
    #[serde(default)]
    pub audience: String,
    #[serde(default)]
    pub handle: String,
    /// The checkbox: `yes`, or not there.
    #[serde(default)]
    pub wakes: String,
}

/// `GET /sharing`
pub async fn show(State(app): State<App>, session: Session, Mine(instance): Mine) -> Page<SharingPage> {
    let nothing = Typed { path: "/".into(), audience: "account".into(), handle: String::new(), wakes: String::new() };
    Page(page(&app, &session, &instance, nothing))
}

/// `POST /sharing`
pub async fn add(State(app): State<App>, session: Session, Mine(instance): Mine, Form(typed): Form<Typed>) -> Answer {
    let added = match audience(&typed.audience, &typed.handle, typed.wakes == "yes") {
        Ok(audience) => app.sharing.add(&instance, &typed.path, audience).await,
        Err(error) => Err(error),
    };
    match added {
        Ok(_) => Ok(Redirect::to("/sharing").into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = page(&app, &session, &instance, typed);
            let page = SharingPage { note: problem.detail.clone(), field: problem.field.unwrap_or("path"), ..page };
            Ok(problem.with(Page(page)))
        }
    }
}

/// `POST /sharing/{id}/remove`
pub async fn remove(State(app): State<App>, Mine(instance): Mine, Path(id): Path<String>) -> Answer<Redirect> {
    app.sharing.remove(&instance, share_id(&id)?, instance.handle.as_str()).await?;
    Ok(Redirect::to("/sharing"))
}

/// Whom somebody means, in the words of form and JSON.
///
/// # Errors
/// `Invalid` for an audience that there is not, or no handle.
pub fn audience(word: &str, handle: &str, wakes: bool) -> Result<ShareAudience> {
    match word {
        "account" => match Handle::parse(&handle.trim().to_ascii_lowercase()) {
            Ok(handle) => Ok(ShareAudience::Account { handle }),
            Err(_) => Err(Error::invalid("handle", "Type the handle of somebody who has an account here.")),
        },
        "signed_in" => Ok(ShareAudience::SignedIn),
        "everyone" => Ok(ShareAudience::Everyone { wakes }),
        _ => Err(Error::invalid("audience", "Say to whom: account, signed_in or everyone.")),
    }
}

/// A share's id as it stands in an address.
///
/// # Errors
/// `NotFound` for what is none.
pub fn share_id(id: &str) -> Result<ShareId> {
    id.parse().map_err(|_| Error::NotFound)
}

/// The address of what was opened.
#[must_use]
pub fn address(app: &App, instance: &Instance, share: &Share) -> String {
    format!("{}{}", app.config.hosts.instance_origin(&instance.handle), share.path)
}

fn page(app: &App, session: &Session, instance: &Instance, typed: Typed) -> SharingPage {
    let shares = app.sharing.of(instance.id);
    let row = |share: &Share| ShareRow {
        id: share.id.to_string(),
        address: address(app, instance, share),
        path: share.path.clone(),
        to: in_words(&share.audience),
    };
    SharingPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(session),
        may_add: shares.len() < MOST_SHARES,
        shares: shares.iter().map(row).collect(),
        most: MOST_SHARES,
        typed,
        note: String::new(),
        field: "",
    }
}

fn in_words(audience: &ShareAudience) -> String {
    match audience {
        ShareAudience::Account { handle } => format!("to {handle}"),
        ShareAudience::SignedIn => "to whoever has an account here".into(),
        ShareAudience::Everyone { wakes: true } => "to everyone, and a visit wakes it".into(),
        ShareAudience::Everyone { wakes: false } => "to everyone, while it is awake".into(),
    }
}
