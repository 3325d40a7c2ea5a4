//! The operator's page of one user: the remaining budget, the account's own limits, and credit.

use askama::Template;
use axum::extract::{Form, Path, State};
use axum::response::{IntoResponse as _, Redirect};
use berth_ground::error::{Error, Result};
use berth_ground::handle::Handle;
use berth_ground::money::Nanodollars;
use serde::Deserialize;

use crate::accounts::{AccountView, Session};
use crate::app::App;
use crate::config::parse_dollars;
use crate::http::format::{dollars, grouped};
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::quota::admission::{AccountLimits, CreditGrant};
use crate::web::page_head::PageHead;
use crate::web::usage::budget_view::{Gauge, budget_view};

#[derive(Template)]
#[template(path = "admin/limits.html")]
pub struct UserLimitsPage {
    pub head: PageHead,
    pub account: String,
    pub gauges: Vec<Gauge>,
    pub credit: String,
    pub limits: Vec<LimitField>,
    pub amount: String,
    pub reason: String,
    /// The validation message of the form and its field; empty without a mistake.
    pub note: String,
    pub field: &'static str,
}

/// One of the account's own limits in the form.
pub struct LimitField {
    pub name: &'static str,
    pub label: &'static str,
    /// Empty when the installation's limit applies.
    pub typed: String,
    pub usual: String,
}

/// `GET /admin/users/{handle}`
pub async fn account(
    State(app): State<App>,
    session: Session,
    Path(handle): Path<String>,
) -> HandlerResult<Page<UserLimitsPage>> {
    let view = app.accounts.account(&known(&handle)?).await?;
    let own = app.quota.admission.own_limits(view.id).await?;
    Ok(Page(account_page(&app, &session, &view, typed(&own)).await?))
}

/// The form of limits. An empty field means the installation's limit.
#[derive(Clone, Default, Deserialize)]
#[serde(default)]
pub struct LimitsForm {
    month: String,
    day: String,
    requests: String,
    tokens: String,
    at_once: String,
}

/// `POST /admin/users/{handle}/limits`
pub async fn set_limits(
    State(app): State<App>,
    session: Session,
    Path(handle): Path<String>,
    Form(limits): Form<LimitsForm>,
) -> HandlerResult {
    let view = app.accounts.account(&known(&handle)?).await?;
    let set = async {
        let own = limits.read(app.quota.admission.own_limits(view.id).await?)?;
        // Written together with its audit entry.
        app.quota.admission.set_limits(&view.handle, own, session.handle.as_str()).await?;
        // The account's limits are held in memory; this makes them apply to the next call rather than after the next
        // refresh.
        app.quota.admission.reload(view.id).await
    };
    match set.await {
        Ok(()) => Ok(Redirect::to(&format!("/admin/users/{}", view.handle)).into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = account_page(&app, &session, &view, limits).await?;
            let page = UserLimitsPage { note: problem.detail.clone(), field: problem.field.unwrap_or("month"), ..page };
            Ok(problem.with(Page(page)))
        }
    }
}

#[derive(Deserialize)]
pub struct CreditForm {
    #[serde(default)]
    amount: String,
    #[serde(default)]
    reason: String,
}

/// `POST /admin/users/{handle}/credit`
pub async fn give_credit(
    State(app): State<App>,
    session: Session,
    Path(handle): Path<String>,
    Form(credit): Form<CreditForm>,
) -> HandlerResult {
    let view = app.accounts.account(&known(&handle)?).await?;
    let amount = credit.amount.trim();
    // `parse_dollars` accepts no sign; credit can be taken back, limits cannot be negative.
    let taken_back = amount.strip_prefix('-');
    let Some(given) = parse_dollars(taken_back.unwrap_or(amount)).filter(|given| *given > Nanodollars::ZERO) else {
        let problem =
            Problem::in_place(Error::invalid("amount", "Enter US dollars such as 2.50, or -2.50 to take it back."))?;
        let own = app.quota.admission.own_limits(view.id).await?;
        let page = account_page(&app, &session, &view, typed(&own)).await?;
        let (note, field) = (problem.detail.clone(), "amount");
        let page = UserLimitsPage { note, field, amount: credit.amount, reason: credit.reason, ..page };
        return Ok(problem.with(Page(page)));
    };
    let (handle, note) = (&view.handle, credit.reason.trim());
    let nanodollars = if taken_back.is_some() { -given } else { given };
    let credit = CreditGrant { account: view.id, handle, nanodollars, note };
    app.quota.admission.give_credit(credit, session.handle.as_str()).await?;
    app.quota.admission.reload(view.id).await?;
    Ok(Redirect::to(&format!("/admin/users/{}", view.handle)).into_response())
}

fn known(handle: &str) -> Result<Handle> {
    Handle::parse(handle).map_err(|_| Error::NotFound)
}

fn typed(own: &AccountLimits) -> LimitsForm {
    let money = |limit: Option<Nanodollars>| limit.map(|limit| dollars(limit).replace('$', "")).unwrap_or_default();
    let count = |limit: Option<i64>| limit.map(|limit| limit.to_string()).unwrap_or_default();
    LimitsForm {
        month: money(own.month_nanodollars),
        day: money(own.day_nanodollars),
        requests: count(own.requests_a_minute),
        tokens: count(own.tokens_a_minute),
        at_once: count(own.calls_at_once),
    }
}

impl LimitsForm {
    /// Parses the form as limits. Limits without a field in the form are taken from `own`.
    fn read(&self, own: AccountLimits) -> Result<AccountLimits> {
        fn limit<L>(
            field: &'static str,
            typed: &str,
            read: fn(&str) -> Option<L>,
            sentence: &str,
        ) -> Result<Option<L>> {
            match typed.trim() {
                "" => Ok(None),
                typed => read(typed).map(Some).ok_or_else(|| Error::invalid(field, sentence.to_owned())),
            }
        }
        let money = |field, typed: &str| {
            limit(field, typed, parse_dollars, "Enter US dollars such as 5 or 2.50, or leave it empty.")
        };
        let count = |field, typed: &str| {
            limit(
                field,
                typed,
                |text| text.parse::<u32>().ok().map(i64::from),
                "Enter a whole number, or leave it empty.",
            )
        };
        Ok(AccountLimits {
            month_nanodollars: money("month", &self.month)?,
            day_nanodollars: money("day", &self.day)?,
            requests_a_minute: count("requests", &self.requests)?,
            tokens_a_minute: count("tokens", &self.tokens)?,
            calls_at_once: count("at_once", &self.at_once)?,
            ..own
        })
    }
}

async fn account_page(app: &App, session: &Session, view: &AccountView, typed: LimitsForm) -> Result<UserLimitsPage> {
    let left = budget_view(&app.quota.reports.budget(view.id).await?);
    let usual = app.config.limits;
    let or_none = |limit: Option<String>| limit.unwrap_or_else(|| "no limit".into());
    let count = |limit: Option<u32>| or_none(limit.map(|limit| grouped(limit.into())));
    let field = |name, label, typed, usual| LimitField { name, label, typed, usual };
    Ok(UserLimitsPage {
        head: session.into(),
        account: view.handle.to_string(),
        gauges: left.gauges,
        credit: left.credit,
        limits: vec![
            field("month", "US dollars per month", typed.month, dollars(usual.month_nanodollars)),
            field("day", "US dollars per day", typed.day, or_none(usual.day_nanodollars.map(dollars))),
            field("requests", "Calls per minute", typed.requests, count(usual.requests_a_minute)),
            field("tokens", "Tokens per minute", typed.tokens, count(usual.tokens_a_minute)),
            field("at_once", "Calls at once", typed.at_once, usual.calls_at_once.to_string()),
        ],
        amount: String::new(),
        reason: String::new(),
        note: String::new(),
        field: "",
    })
}
