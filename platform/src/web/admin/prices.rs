//! The operator's pages of model prices: the active price table, stored versions, a version compared with the active
//! one, and the upload of another. An uploaded table is reviewed before it is activated.

use askama::Template;
use axum::extract::{Form, Path, Query, State};
use axum::response::{IntoResponse as _, Redirect};
use berth_ground::error::{Error, Result};
use berth_ground::money::Nanodollars;
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::http::format::{Moment, dollars, grouped, query_value};
use crate::http::page::Page;
use crate::http::problem::{HandlerResult, Problem};
use crate::quota::prices::{Price, PriceCatalogue, PriceChanges, PriceDifference, PriceTable, PricedModel};
use crate::web::page_head::PageHead;

/// Largest price table, in bytes; LiteLLM's complete one is below 2 MiB.
pub const TABLE_BYTES: usize = 4 * 1024 * 1024;
/// Largest body of the form: form encoding takes up to three bytes for a byte.
pub const FORM_BYTES: usize = 3 * TABLE_BYTES + 64 * 1024;
/// Models that are shown at a time; the filter finds the others.
const MOST_MODELS: usize = 100;
/// Maximum length of a table's source, in characters.
const LONGEST_SOURCE: usize = 100;

#[derive(Template)]
#[template(path = "admin/prices.html")]
pub struct PricesPage {
    pub head: PageHead,
    pub version: String,
    pub tables: Vec<PriceTableRow>,
    pub models: ModelList,
    /// The form's content, and its validation message.
    pub table: String,
    pub source: String,
    pub note: String,
}

/// A stored price table.
pub struct PriceTableRow {
    pub version: String,
    pub source: String,
    pub taken_in: Option<Moment>,
    /// ` by olivia`, or empty.
    pub taken_in_by: String,
    pub chosen: Option<Moment>,
    pub chosen_by: String,
    pub is_in_force: bool,
    pub is_whole: bool,
}

/// Models with their prices, after filtering.
pub struct ModelList {
    /// The address of the filter's form.
    pub action: String,
    pub typed: String,
    pub rows: Vec<ModelRow>,
    /// Models in the table, models that match the filter, and matches that are not shown.
    pub all: usize,
    pub found: usize,
    pub more: usize,
}

/// A model; prices are in dollars per million tokens.
pub struct ModelRow {
    pub model: String,
    pub provider: String,
    pub input: String,
    pub output: String,
    pub cache_read: String,
    pub cache_write: String,
    /// Further conditions of the price: `up to 200 000 tokens in`, `higher price above 100 000`.
    pub what: Vec<String>,
}

#[derive(Template)]
#[template(path = "admin/price_version.html")]
pub struct PriceVersionPage {
    pub head: PageHead,
    pub table: PriceTableRow,
    pub changes: PriceChanges,
    pub differences: Vec<PriceDifferenceRow>,
    /// How many differences are not shown.
    pub more: usize,
    pub models: ModelList,
}

/// A model with a price that differs from that in the active table.
pub struct PriceDifferenceRow {
    pub model: String,
    pub provider: String,
    /// `new`, `removed` or empty.
    pub tag: &'static str,
    pub input: PriceChange,
    pub output: PriceChange,
    /// Where the prices differ when input and output are equal; empty otherwise.
    pub what: &'static str,
}

/// A price, and its value in the active table where that is another.
pub struct PriceChange {
    pub now: String,
    /// Empty when it is the same.
    pub was: String,
}

#[derive(Default, Deserialize)]
pub struct ModelFilterQuery {
    /// Part of a model's or a provider's name.
    #[serde(default)]
    model: String,
}

/// `GET /admin/prices?model=sonnet`
pub async fn show(
    State(app): State<App>,
    session: Session,
    Query(asked): Query<ModelFilterQuery>,
) -> HandlerResult<Page<PricesPage>> {
    Ok(Page(page(&app, &session, asked).await?))
}

async fn page(app: &App, session: &Session, asked: ModelFilterQuery) -> Result<PricesPage> {
    let (catalogue, tables) = tokio::try_join!(app.quota.prices.active_catalogue(), app.quota.prices.list())?;
    Ok(PricesPage {
        head: session.into(),
        tables: tables.into_iter().map(table_row).collect(),
        models: models("/admin/prices", &catalogue.models, asked.model),
        version: catalogue.version,
        table: String::new(),
        source: String::new(),
        note: String::new(),
    })
}

#[derive(Deserialize)]
pub struct PriceTableForm {
    #[serde(default)]
    table: String,
    #[serde(default)]
    source: String,
}

/// `POST /admin/prices`: stores a table, and leads to its comparison with the active one.
pub async fn take_in(State(app): State<App>, session: Session, Form(sent): Form<PriceTableForm>) -> HandlerResult {
    // In one block, so that every error is shown in the form, wherever it comes from.
    let kept = async {
        if sent.table.len() > TABLE_BYTES {
            return Err(Error::invalid("table", "The table is larger than 4 MiB."));
        }
        let source: String = sent.source.trim().chars().take(LONGEST_SOURCE).collect();
        let source = if source.is_empty() { "pasted".to_owned() } else { source };
        // A version is the hash of its text. Forms end lines with CRLF (HTML, form submission), so the same table
        // would be another version when it comes from the command line.
        let table = sent.table.replace("\r\n", "\n");
        app.quota.prices.add(&table, &source, session.handle.as_str()).await
    };
    match kept.await {
        Ok(version) => Ok(Redirect::to(&format!("/admin/prices/{version}")).into_response()),
        Err(error) => {
            let problem = Problem::in_place(error)?;
            let page = page(&app, &session, ModelFilterQuery::default()).await?;
            let note = format!("This table cannot be read: {}.", problem.detail.trim_end_matches('.'));
            // A table above the limit is not echoed.
            let table = if sent.table.len() > TABLE_BYTES { String::new() } else { sent.table };
            Ok(problem.with(Page(PricesPage { table, source: sent.source, note, ..page })))
        }
    }
}

/// `GET /admin/prices/{version}?model=sonnet`
pub async fn version(
    State(app): State<App>,
    session: Session,
    Path(version): Path<String>,
    Query(asked): Query<ModelFilterQuery>,
) -> HandlerResult<Page<PriceVersionPage>> {
    let (table, catalogue) = app.quota.prices.catalogue(&version).await?;
    Ok(Page(version_page((&session).into(), table, &catalogue, asked.model)))
}

/// Builds the page of a version, compared with the active table.
#[must_use]
pub fn version_page(head: PageHead, table: PriceTable, catalogue: &PriceCatalogue, typed: String) -> PriceVersionPage {
    let differences = &catalogue.differences;
    let shown = &differences[..differences.len().min(MOST_MODELS)];
    PriceVersionPage {
        head,
        models: models(&format!("/admin/prices/{}", query_value(&table.version)), &catalogue.models, typed),
        table: table_row(table),
        changes: catalogue.changes,
        more: differences.len() - shown.len(),
        differences: shown.iter().map(difference_row).collect(),
    }
}

/// `POST /admin/prices/{version}/activate`
pub async fn put_in_force(
    State(app): State<App>,
    session: Session,
    Path(version): Path<String>,
) -> HandlerResult<Redirect> {
    app.quota.prices.activate(Some(&version), session.handle.as_str()).await?;
    // Calls in flight are charged at the prices of their hold.
    app.quota.prices.reload().await?;
    Ok(Redirect::to("/admin/prices"))
}

/// A stored table as a row.
#[must_use]
pub fn table_row(table: PriceTable) -> PriceTableRow {
    let by = |who: String| if who.is_empty() { who } else { format!(" by {who}") };
    PriceTableRow {
        version: table.version,
        source: table.source,
        taken_in: table.imported.at.map(Moment),
        taken_in_by: by(table.imported.by),
        chosen: table.activated.at.map(Moment),
        chosen_by: by(table.activated.by),
        is_in_force: table.is_in_force,
        is_whole: table.is_whole,
    }
}

/// The models with `typed` in their name or provider.
#[must_use]
pub fn models(action: &str, models: &[PricedModel], typed: String) -> ModelList {
    let wanted = typed.trim().to_lowercase();
    let is_wanted = |name: &str| name.to_lowercase().contains(&wanted);
    let found: Vec<_> = models.iter().filter(|one| is_wanted(&one.model) || is_wanted(&one.provider)).collect();
    let shown = &found[..found.len().min(MOST_MODELS)];
    ModelList {
        action: action.to_owned(),
        typed,
        rows: shown.iter().map(|one| model_row(one)).collect(),
        all: models.len(),
        found: found.len(),
        more: found.len() - shown.len(),
    }
}

fn model_row(PricedModel { provider, model, price }: &PricedModel) -> ModelRow {
    let rates = &price.standard.rates;
    let or_input = |rate: Option<i64>| of_a_million(rate.unwrap_or(rates.input));
    ModelRow {
        model: model.clone(),
        provider: provider.clone(),
        input: of_a_million(rates.input),
        output: of_a_million(rates.output),
        cache_read: or_input(rates.cache_read),
        cache_write: or_input(rates.cache_write),
        what: what_else(price),
    }
}

/// The price of a million tokens at `rate`, in dollars.
fn of_a_million(rate: i64) -> String {
    dollars(Nanodollars(rate))
}

/// Further conditions of a price, as phrases.
fn what_else(price: &Price) -> Vec<String> {
    let tokens = |count: u64| grouped(i64::try_from(count).unwrap_or(i64::MAX));
    let mut what = Vec::new();
    what.extend(price.max_input_tokens.map(|most| format!("up to {} tokens in", tokens(most))));
    what.extend(price.max_output_tokens.map(|most| format!("up to {} out", tokens(most))));
    what.extend(price.long_above_tokens.map(|above| format!("higher price above {}", tokens(above))));
    let tiers: Vec<_> = price.tiers.keys().map(|tier| tier.as_str()).collect();
    if !tiers.is_empty() {
        what.push(format!("other prices: {}", tiers.join(", ")));
    }
    what.extend(price.web_search_nanodollars.map(|search| format!("{} per search", dollars(search))));
    if price.call_nanodollars > Nanodollars::ZERO {
        what.push(format!("{} per call", dollars(price.call_nanodollars)));
    }
    what
}

fn difference_row(one: &PriceDifference) -> PriceDifferenceRow {
    let rate = |of: fn(&Price) -> i64| {
        let (before, after) = (one.before.as_ref().map(of), one.after.as_ref().map(of));
        // A model that is new or removed has only one price to show.
        let differs = before.is_some() && after.is_some() && before != after;
        PriceChange {
            now: after.or(before).map(of_a_million).unwrap_or_default(),
            was: before.filter(|_| differs).map(of_a_million).unwrap_or_default(),
        }
    };
    let (input, output) = (rate(|price| price.standard.rates.input), rate(|price| price.standard.rates.output));
    let (tag, is_elsewhere) = match (&one.before, &one.after) {
        (None, _) => ("new", false),
        (_, None) => ("removed", false),
        _ => ("", input.was.is_empty() && output.was.is_empty()),
    };
    PriceDifferenceRow {
        model: one.model.clone(),
        provider: one.provider.clone(),
        tag,
        input,
        output,
        what: if is_elsewhere { "differs in tiers, cache, sizes or searches" } else { "" },
    }
}
