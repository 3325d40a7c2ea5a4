//! Rating receipts again by a version of the prices: what would change, and then changing it.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::response::IntoResponse as _;
use serde::Deserialize;

use crate::accounts::{AccountView, Session};
use crate::app::App;
use crate::error::{Error, Result};
use crate::handle::Handle;
use crate::http::format::{about, column};
use crate::http::page::Page;
use crate::http::problem::{Answer, Problem};
use crate::quota::{Mode, RatedAccount, RerateOrder, Rerated};

/// Accounts that are shown; the command line prints all.
const MOST_ROWS: usize = 50;

#[derive(Template)]
#[template(path = "admin/rerating.html")]
pub struct ReratingPage {
    pub handle: String,
    pub is_admin: bool,
    pub version: String,
    pub typed: Typed,
    /// `None` when what was typed is not right.
    pub found: Option<FoundInWords>,
    /// Whether it was changed by now.
    pub is_done: bool,
    /// What is wrong with what was typed, and the field to blame; empty when nothing is.
    pub note: String,
    pub field: &'static str,
}

/// Which receipts.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct Typed {
    pub since: String,
    pub until: String,
    pub account: String,
}

/// What a re-rating came to.
pub struct FoundInWords {
    pub looked_at: u64,
    pub changed: u64,
    /// Less is with a minus.
    pub difference: String,
    pub without_price: u64,
    pub not_counted: u64,
    pub rows: Vec<ReratedRow>,
    /// How many more accounts there are.
    pub more: usize,
}

/// One account.
pub struct ReratedRow {
    pub handle: String,
    pub receipts: u64,
    pub difference: String,
}

/// `GET /admin/prices/{version}/rerate?since=2026-11-01`: what would change.
pub async fn look(
    State(app): State<App>,
    session: Session,
    Path(version): Path<String>,
    Query(typed): Query<Typed>,
) -> Answer {
    app.quota.prices_of(&version).await?;
    answer(&app, &session, (version, typed), Mode::Look).await
}

/// `POST /admin/prices/{version}/rerate`
pub async fn change(
    State(app): State<App>,
    session: Session,
    Path(version): Path<String>,
    Form(typed): Form<Typed>,
) -> Answer {
    app.quota.prices_of(&version).await?;
    let by = session.handle.to_string();
    answer(&app, &session, (version, typed), Mode::Change { by }).await
}

async fn answer(app: &App, session: &Session, (version, typed): (String, Typed), mode: Mode) -> Answer {
    let is_done = mode != Mode::Look;
    let page = ReratingPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(session),
        version: version.clone(),
        typed: typed.clone(),
        found: None,
        is_done: false,
        note: String::new(),
        field: "",
    };
    match rerated(app, version, typed, mode).await {
        Ok(found) => {
            let found = Some(in_words(&found, &app.accounts.accounts().await?));
            Ok(Page(ReratingPage { found, is_done, ..page }).into_response())
        }
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let (note, field) = (problem.detail.clone(), problem.field.unwrap_or("since"));
            Ok(problem.with(Page(ReratingPage { note, field, ..page })))
        }
    }
}

async fn rerated(app: &App, version: String, typed: Typed, mode: Mode) -> Result<Rerated> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let account = match some(&typed.account) {
        None => None,
        Some(handle) => {
            let nobody = || Error::invalid("account", "Nobody has that handle.");
            let handle = Handle::parse(&handle).map_err(|_| nobody())?;
            match app.accounts.account(&handle).await {
                Ok(view) => Some(view.id),
                Err(Error::NotFound) => return Err(nobody()),
                Err(error) => return Err(error),
            }
        }
    };
    let order = RerateOrder { version, since: some(&typed.since), until: some(&typed.until), account };
    let rerating = app.quota.rerate(order, mode).await?;
    // It goes on when the page is not waited for: what it changes is the same, and is there when it is asked for again.
    let over = tokio::spawn(rerating.all()).await;
    over.map_err(anyhow::Error::new)?
}

/// What was found, the accounts of which most changes first.
#[must_use]
pub fn in_words(found: &Rerated, known: &[AccountView]) -> FoundInWords {
    let mut accounts: Vec<&RatedAccount> = found.accounts.iter().collect();
    accounts.sort_by_key(|one| std::cmp::Reverse(one.nanodollars.unsigned_abs()));
    let shown = &accounts[..accounts.len().min(MOST_ROWS)];
    let differences = column(&shown.iter().map(|one| one.nanodollars).collect::<Vec<_>>());
    let row = |(one, difference): (&&RatedAccount, String)| ReratedRow {
        handle: known
            .iter()
            .find(|view| view.id == one.account)
            .map(|view| view.handle.to_string())
            .unwrap_or_default(),
        receipts: one.receipts,
        difference,
    };
    FoundInWords {
        looked_at: found.looked_at,
        changed: found.changed,
        difference: about(found.nanodollars),
        without_price: found.without_price,
        not_counted: found.not_counted,
        more: accounts.len() - shown.len(),
        rows: shown.iter().zip(differences).map(row).collect(),
    }
}
