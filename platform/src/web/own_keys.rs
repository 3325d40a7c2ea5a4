//! The page of the account's own provider keys (bring your own key): the providers that have one, and the provider's
//! last refusal of it. The keys themselves are never shown.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Redirect};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::accounts::Session;
use crate::app::App;
use crate::db::AccountId;
use crate::http::format::Moment;
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::own_keys::{KeyOwner, KeyRefusal, OwnKey};
use crate::web::access::AccessLevel::Member;
use crate::web::page_head::PageHead;
use crate::web::route::{Route, get, post};

/// The routes of own provider keys.
pub(super) fn routes() -> Vec<Route> {
    vec![
        get("/own-keys", Member, show),
        post("/own-keys/{provider}", Member, set),
        post("/own-keys/{provider}/remove", Member, remove),
    ]
}

#[derive(Template)]
#[template(path = "own_keys/own_keys.html")]
pub struct OwnKeysPage {
    pub head: PageHead,
    pub providers: Vec<ProviderRow>,
}

/// A provider, and the account's key there if it has one.
pub struct ProviderRow {
    /// The provider's name in paths.
    pub provider: String,
    /// The provider's name for people.
    pub name: String,
    /// Whether this provider is configured here. A key can outlive its provider's configuration.
    pub is_served: bool,
    pub key: Option<OwnKeyView>,
    /// The validation message of the form, or empty.
    pub note: String,
}

/// A stored key.
pub struct OwnKeyView {
    pub last_four: String,
    pub added: Moment,
    pub refused: Option<KeyRefusalView>,
}

pub struct KeyRefusalView {
    pub at: Moment,
    /// The reason of the refusal, as a phrase that follows its time.
    pub how: String,
}

/// The key is a secret: a refused form does not echo it, and its memory is wiped when it is dropped.
#[derive(Deserialize)]
pub struct OwnKeyForm {
    #[serde(default)]
    key: Zeroizing<String>,
}

/// `GET /own-keys`
pub async fn show(State(app): State<App>, session: Session) -> Page<OwnKeysPage> {
    Page(page(&app, &session))
}

/// `POST /own-keys/{provider}`
pub async fn set(
    State(app): State<App>,
    session: Session,
    Path(provider): Path<String>,
    Form(typed): Form<OwnKeyForm>,
) -> HandlerResult {
    match app.own_keys.set(owner(&session), &provider, &typed.key).await {
        Ok(()) => Ok(Redirect::to("/own-keys").into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let mut page = page(&app, &session);
            for row in page.providers.iter_mut().filter(|row| row.provider == provider) {
                // The refused text is a secret and does not go back into the field.
                row.note.clone_from(&problem.detail);
            }
            Ok(problem.with(Page(page)))
        }
    }
}

/// `POST /own-keys/{provider}/remove`
pub async fn remove(State(app): State<App>, session: Session, Path(provider): Path<String>) -> HandlerResult<Redirect> {
    app.own_keys.remove(owner(&session), &provider).await?;
    Ok(Redirect::to("/own-keys"))
}

fn owner(session: &Session) -> KeyOwner<'_> {
    KeyOwner { account: session.account, handle: &session.handle }
}

/// A sentence about the providers that are called with an own key; empty without any.
#[must_use]
pub fn budget_note(app: &App, account: AccountId) -> String {
    let names: Vec<String> = app.own_keys.in_use(account).iter().map(|provider| name(provider)).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!("Calls to {one} use your own key and none of this budget."),
        several => format!("Calls to {} use your own keys and none of this budget.", several.join(" and ")),
    }
}

fn page(app: &App, session: &Session) -> OwnKeysPage {
    let (served, keys) = (app.own_keys.providers(), app.own_keys.of(session.account));
    // A key outlives the configuration of its provider. It is still listed, so that its owner can remove it.
    let left_over = keys.iter().map(|key| &key.provider).filter(|provider| !served.contains(provider));
    let row = |provider: &String| ProviderRow {
        name: name(provider),
        is_served: served.contains(provider),
        key: keys.iter().find(|key| key.provider == *provider).map(Into::into),
        note: String::new(),
        provider: provider.clone(),
    };
    OwnKeysPage { head: session.into(), providers: served.iter().chain(left_over).map(row).collect() }
}

fn name(provider: &str) -> String {
    match provider {
        "anthropic" => "Anthropic".into(),
        "openai" => "OpenAI".into(),
        other => other.into(),
    }
}

impl From<&OwnKey> for OwnKeyView {
    fn from(key: &OwnKey) -> Self {
        Self { last_four: key.last_four.clone(), added: Moment(key.added_at), refused: key.refused.map(Into::into) }
    }
}

impl From<KeyRefusal> for KeyRefusalView {
    fn from(KeyRefusal { at, status }: KeyRefusal) -> Self {
        let why = if status == 401 { "it does not recognise this key" } else { "this key is not allowed to do this" };
        Self { at: Moment(at), how: format!("{why} ({status})") }
    }
}
