//! Repricing: charges past calls by another version of the prices, as corrections. A dry run shows the differences
//! first.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::response::IntoResponse as _;
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use serde::Deserialize;

use crate::accounts::{AccountView, Session};
use crate::app::App;
use crate::http::format::{about, column};
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::quota::ledger::{AccountRepricing, RepricingMode, RepricingOrder, RepricingResult};
use crate::web::page_head::PageHead;

/// Users that are shown; the command line prints all.
const MOST_ROWS: usize = 50;

#[derive(Template)]
#[template(path = "admin/repricing.html")]
pub struct RepricingPage {
    pub head: PageHead,
    pub version: String,
    pub typed: RepricingForm,
    /// `None` when the form was refused.
    pub found: Option<RepricingView>,
    /// Whether the corrections have been written.
    pub is_done: bool,
    /// The validation message of the form and its field; empty without a mistake.
    pub note: String,
    pub field: &'static str,
}

/// Which receipts are repriced.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct RepricingForm {
    pub since: String,
    pub until: String,
    pub account: String,
}

/// The result of a repricing.
pub struct RepricingView {
    pub looked_at: u64,
    pub changed: u64,
    /// Negative when money is given back.
    pub difference: String,
    pub without_price: u64,
    pub not_counted: u64,
    pub rows: Vec<RepricedUserRow>,
    /// How many users are not shown.
    pub more: usize,
}

/// The difference for one user.
pub struct RepricedUserRow {
    pub handle: String,
    pub receipts: u64,
    pub difference: String,
}

/// `GET /admin/prices/{version}/repricing?since=2026-11-01`: the dry run.
pub async fn look(
    State(app): State<App>,
    session: Session,
    Path(version): Path<String>,
    Query(typed): Query<RepricingForm>,
) -> HandlerResult {
    // Checked first: an unknown version is 404, and not an error of the form.
    app.quota.prices.catalogue(&version).await?;
    answer(&app, &session, version, typed, RepricingMode::DryRun).await
}

/// `POST /admin/prices/{version}/repricing` writes the corrections.
pub async fn change(
    State(app): State<App>,
    session: Session,
    Path(version): Path<String>,
    Form(typed): Form<RepricingForm>,
) -> HandlerResult {
    app.quota.prices.catalogue(&version).await?;
    let by = session.handle.to_string();
    answer(&app, &session, version, typed, RepricingMode::Apply { actor: by }).await
}

async fn answer(
    app: &App,
    session: &Session,
    version: String,
    typed: RepricingForm,
    mode: RepricingMode,
) -> HandlerResult {
    let is_done = mode != RepricingMode::DryRun;
    let page = RepricingPage {
        head: session.into(),
        version: version.clone(),
        typed: typed.clone(),
        found: None,
        is_done: false,
        note: String::new(),
        field: "",
    };
    match rerated(app, version, typed, mode).await {
        Ok(found) => {
            let found = Some(repricing_view(&found, &app.accounts.accounts().await?));
            Ok(Page(RepricingPage { found, is_done, ..page }).into_response())
        }
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let (note, field) = (problem.detail.clone(), problem.field.unwrap_or("since"));
            Ok(problem.with(Page(RepricingPage { note, field, ..page })))
        }
    }
}

async fn rerated(app: &App, version: String, typed: RepricingForm, mode: RepricingMode) -> Result<RepricingResult> {
    let some = |text: &str| Some(text.trim().to_owned()).filter(|text| !text.is_empty());
    let account = match some(&typed.account) {
        None => None,
        Some(handle) => {
            let nobody = || Error::invalid("account", "There is no user with that handle.");
            let handle = Handle::parse(&handle).map_err(|_| nobody())?;
            match app.accounts.account(&handle).await {
                Ok(view) => Some(view.id),
                Err(Error::NotFound) => return Err(nobody()),
                Err(error) => return Err(error),
            }
        }
    };
    let order = RepricingOrder { version, since: some(&typed.since), until: some(&typed.until), account };
    let rerating = app.quota.ledger.reprice(order, mode).await?;
    // In a task of its own: when the browser disconnects, axum drops this future, and a repricing must not stop half
    // way. A repeated run is idempotent: it continues with the remaining calls.
    let over = tokio::spawn(rerating.all()).await;
    over.map_err(anyhow::Error::new)?
}

/// Describes the result, the largest differences first.
#[must_use]
pub fn repricing_view(found: &RepricingResult, known: &[AccountView]) -> RepricingView {
    let mut accounts: Vec<&AccountRepricing> = found.accounts.iter().collect();
    // By size whatever the sign: a large refund is as interesting as a large charge.
    accounts.sort_by_key(|one| std::cmp::Reverse(one.nanodollars.0.unsigned_abs()));
    let shown = &accounts[..accounts.len().min(MOST_ROWS)];
    let differences = column(&shown.iter().map(|one| one.nanodollars).collect::<Vec<_>>());
    let row = |(one, difference): (&&AccountRepricing, String)| RepricedUserRow {
        handle: known
            .iter()
            .find(|view| view.id == one.account)
            .map(|view| view.handle.to_string())
            .unwrap_or_default(),
        receipts: one.receipts,
        difference,
    };
    RepricingView {
        looked_at: found.looked_at,
        changed: found.changed,
        difference: about(found.nanodollars),
        without_price: found.without_price,
        not_counted: found.not_counted,
        more: accounts.len() - shown.len(),
        rows: shown.iter().zip(differences).map(row).collect(),
    }
}
