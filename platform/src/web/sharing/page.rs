//! The page of shares: the paths that are open to an audience, and the form that opens another.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Redirect};
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::instances::Instance;
use crate::sharing::{MOST_SHARES, Share, ShareAudience, ShareId};
use crate::web::extractors::OwnInstance;
use crate::web::page_head::PageHead;

#[derive(Template)]
#[template(path = "sharing/sharing.html")]
pub struct SharingPage {
    pub head: PageHead,
    pub shares: Vec<ShareRow>,
    pub most: usize,
    pub may_add: bool,
    pub typed: ShareForm,
    /// The validation message of the form and its field; both may be empty.
    pub note: String,
    pub field: &'static str,
}

/// A share in the list.
pub struct ShareRow {
    pub id: String,
    /// The share's full address.
    pub address: String,
    pub path: String,
    pub to: String,
}

/// The form. A refused form is shown again with its content.
#[derive(Deserialize)]
pub struct ShareForm {
    #[serde(default)]
    pub path: String,
    /// `account`, `signed_in` or `everyone`.
    #[serde(default)]
    pub audience: String,
    #[serde(default)]
    pub handle: String,
    /// The checkbox: `yes`, or absent.
    #[serde(default)]
    pub wakes: String,
}

/// `GET /sharing`
pub async fn show(State(app): State<App>, session: Session, OwnInstance(instance): OwnInstance) -> Page<SharingPage> {
    let nothing =
        ShareForm { path: "/".into(), audience: "account".into(), handle: String::new(), wakes: String::new() };
    Page(page(&app, &session, &instance, nothing))
}

/// `POST /sharing`
pub async fn add(
    State(app): State<App>,
    session: Session,
    OwnInstance(instance): OwnInstance,
    Form(typed): Form<ShareForm>,
) -> HandlerResult {
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
pub async fn remove(
    State(app): State<App>,
    OwnInstance(instance): OwnInstance,
    Path(id): Path<String>,
) -> HandlerResult<Redirect> {
    app.sharing.remove(&instance, share_id(&id)?, instance.handle.as_str()).await?;
    Ok(Redirect::to("/sharing"))
}

/// Parses an audience from the words that the form and the JSON body share.
///
/// # Errors
/// `Invalid` for an unknown audience, or for a handle that cannot be one.
pub fn audience(word: &str, handle: &str, wakes: bool) -> Result<ShareAudience> {
    match word {
        "account" => match Handle::parse(&handle.trim().to_ascii_lowercase()) {
            Ok(handle) => Ok(ShareAudience::Account { handle }),
            Err(_) => Err(Error::invalid("handle", "Type the handle of a user of this server.")),
        },
        "signed_in" => Ok(ShareAudience::SignedIn),
        "everyone" => Ok(ShareAudience::Everyone { wakes }),
        _ => Err(Error::invalid("audience", "Choose an audience: account, signed_in or everyone.")),
    }
}

/// Parses a share's id from a path.
///
/// # Errors
/// `NotFound` when the text is not an id.
pub fn share_id(id: &str) -> Result<ShareId> {
    id.parse().map_err(|_| Error::NotFound)
}

/// The address of a share.
#[must_use]
pub fn address(app: &App, instance: &Instance, share: &Share) -> String {
    format!("{}{}", app.config.hosts.instance_origin(&instance.handle), share.path)
}

fn page(app: &App, session: &Session, instance: &Instance, typed: ShareForm) -> SharingPage {
    let shares = app.sharing.of(instance.id);
    let row = |share: &Share| ShareRow {
        id: share.id.to_string(),
        address: address(app, instance, share),
        path: share.path.clone(),
        to: in_words(&share.audience),
    };
    SharingPage {
        head: session.into(),
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
        ShareAudience::SignedIn => "to all users of this server".into(),
        ShareAudience::Everyone { wakes: true } => "to everyone; visits wake it".into(),
        ShareAudience::Everyone { wakes: false } => "to everyone, while it is awake".into(),
    }
}
