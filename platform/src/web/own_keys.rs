//! One's own keys at the providers of models: for which there is one, and what the provider last said to it. Never the keys.

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
use crate::http::problem::{Answer, Problem};
use crate::own_keys::{KeyOwner, KeyRefusal, OwnKey};

#[derive(Template)]
#[template(path = "spend/own_keys.html")]
pub struct OwnKeysPage {
    pub handle: String,
    pub is_admin: bool,
    pub providers: Vec<ProviderRow>,
}

/// A provider, and the key there if there is one.
pub struct ProviderRow {
    /// As addresses name it.
    pub provider: String,
    /// As people do.
    pub name: String,
    /// Whether calls go there from here; a key may have outlived that.
    pub is_served: bool,
    pub key: Option<KeyInWords>,
    /// What is wrong with what was typed for it, empty when nothing is.
    pub note: String,
}

/// What is said of a key.
pub struct KeyInWords {
    pub last_four: String,
    pub added: Moment,
    pub refused: Option<RefusedInWords>,
}

pub struct RefusedInWords {
    pub at: Moment,
    /// Behind the time.
    pub how: String,
}

/// What is typed is a secret: it is shown to nobody, also not to who typed it.
#[derive(Deserialize)]
pub struct Typed {
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
    Form(typed): Form<Typed>,
) -> Answer {
    match app.own_keys.set(owner(&session), &provider, &typed.key).await {
        Ok(()) => Ok(Redirect::to("/own-keys").into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let mut page = page(&app, &session);
            for row in page.providers.iter_mut().filter(|row| row.provider == provider) {
                row.note.clone_from(&problem.detail);
            }
            Ok(problem.with(Page(page)))
        }
    }
}

/// `POST /own-keys/{provider}/remove`
pub async fn remove(State(app): State<App>, session: Session, Path(provider): Path<String>) -> Answer<Redirect> {
    app.own_keys.remove(owner(&session), &provider).await?;
    Ok(Redirect::to("/own-keys"))
}

fn owner(session: &Session) -> KeyOwner<'_> {
    KeyOwner { account: session.account, handle: &session.handle }
}

/// Which calls go out under own keys, in a sentence; empty when none do.
#[must_use]
pub fn in_words(app: &App, account: AccountId) -> String {
    let names: Vec<String> = app.own_keys.in_use(account).iter().map(|provider| name(provider)).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => format!("Calls to {one} go out under your own key and use none of it."),
        several => format!("Calls to {} go out under your own keys and use none of it.", several.join(" and ")),
    }
}

fn page(app: &App, session: &Session) -> OwnKeysPage {
    let (served, keys) = (app.own_keys.providers(), app.own_keys.of(session.account));
    let left_over = keys.iter().map(|key| &key.provider).filter(|provider| !served.contains(provider));
    let row = |provider: &String| ProviderRow {
        name: name(provider),
        is_served: served.contains(provider),
        key: keys.iter().find(|key| key.provider == *provider).map(Into::into),
        note: String::new(),
        provider: provider.clone(),
    };
    OwnKeysPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(session),
        providers: served.iter().chain(left_over).map(row).collect(),
    }
}

fn name(provider: &str) -> String {
    match provider {
        "anthropic" => "Anthropic".into(),
        "openai" => "OpenAI".into(),
        other => other.into(),
    }
}

impl From<&OwnKey> for KeyInWords {
    fn from(key: &OwnKey) -> Self {
        Self { last_four: key.last_four.clone(), added: Moment(key.added_at), refused: key.refused.map(Into::into) }
    }
}

impl From<KeyRefusal> for RefusedInWords {
    fn from(KeyRefusal { at, status }: KeyRefusal) -> Self {
        let why = if status == 401 { "it does not know this key" } else { "this key may not do what was asked for" };
        Self { at: Moment(at), how: format!("{why} ({status})") }
    }
}
