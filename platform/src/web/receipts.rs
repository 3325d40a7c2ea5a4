//! Receipts of one's AI calls: the list, one whole, and a month to take away.

use askama::Template;
use axum::body::{Body, Bytes};
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::IntoResponse as _;
use futures_util::TryStreamExt as _;
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::clock::Timestamp;
use crate::db::HoldId;
use crate::error::{Error, Result};
use crate::http::format::{Moment, column, dollars, grouped};
use crate::http::page::Page;
use crate::http::problem::Answer;
use crate::quota::{Month, Payer, Proof, Receipt};

/// Receipts of one page.
pub const A_PAGE: u64 = 50;

#[derive(Template)]
#[template(path = "spend/receipts.html")]
pub struct ReceiptsPage {
    pub handle: String,
    pub is_admin: bool,
    pub receipts: Vec<ReceiptRow>,
    /// Whether the newest are among them.
    pub newest: bool,
    /// Where the older ones begin, if there are any.
    pub before: Option<i64>,
    /// As addresses name the month that is exported from here.
    pub period: String,
}

/// One receipt in a list.
pub struct ReceiptRow {
    pub id: String,
    pub model: String,
    /// Who called and how it ended, where that is worth a word.
    pub note: String,
    pub at: Moment,
    pub input_tokens: String,
    pub output_tokens: String,
    pub amount: String,
}

#[derive(Template)]
#[template(path = "spend/receipt.html")]
pub struct ReceiptPage {
    pub handle: String,
    pub is_admin: bool,
    pub id: String,
    pub amount: String,
    /// `for a call of`, or what a correction is.
    pub what: &'static str,
    pub model: String,
    pub at: Moment,
    /// How the amount came about.
    pub story: String,
    /// What was changed about it since.
    pub corrections: Vec<CorrectionRow>,
    /// What the call cost with all of them.
    pub total: String,
    /// What is wrong with it or with those that vouch for it; empty when nothing is.
    pub wrong: String,
    /// Every field: its name, and what it says.
    pub fields: Vec<(&'static str, String)>,
    pub chain: Vec<(&'static str, String)>,
    pub key: String,
}

/// What changed about a receipt.
pub struct CorrectionRow {
    pub id: String,
    pub amount: String,
    pub reason: String,
}

#[derive(Deserialize)]
pub struct Asked {
    /// A number in the chain.
    pub before: Option<i64>,
}

/// `GET /spend/receipts`
pub async fn list(State(app): State<App>, session: Session, Query(asked): Query<Asked>) -> Answer<Page<ReceiptsPage>> {
    let receipts = app.quota.receipts_before(session.account, asked.before, A_PAGE).await?;
    Ok(Page(ReceiptsPage {
        handle: session.handle.to_string(),
        is_admin: super::admin::is_admin(&session),
        newest: asked.before.is_none(),
        before: next(&receipts),
        period: app.quota.this_month().to_string(),
        receipts: rows(&receipts),
    }))
}

/// `GET /spend/receipts/{id}`
pub async fn show(State(app): State<App>, session: Session, Path(id): Path<String>) -> Answer<Page<ReceiptPage>> {
    let proof = app.quota.receipt(session.account, receipt_id(&id)?).await?;
    let page = page(&proof, app.quota.receipt_key());
    Ok(Page(ReceiptPage { handle: session.handle.to_string(), is_admin: super::admin::is_admin(&session), ..page }))
}

/// A receipt's id as it stands in an address.
///
/// # Errors
/// `NotFound` for what is none.
pub fn receipt_id(id: &str) -> Result<HoldId> {
    id.parse().map_err(|_| Error::NotFound)
}

/// Where the next page begins, if this one is full.
#[must_use]
pub fn next(receipts: &[Receipt]) -> Option<i64> {
    let is_full = u64::try_from(receipts.len()).is_ok_and(|count| count == A_PAGE);
    receipts.last().filter(|last| is_full && last.seq > 1).map(|last| last.seq)
}

/// Receipts as rows of a list.
#[must_use]
pub fn rows(receipts: &[Receipt]) -> Vec<ReceiptRow> {
    let amounts = column(&receipts.iter().map(|receipt| receipt.amount_nanodollars).collect::<Vec<_>>());
    receipts
        .iter()
        .zip(amounts)
        .map(|(receipt, amount)| ReceiptRow {
            id: receipt.id.to_string(),
            model: receipt.model.clone(),
            note: note(receipt),
            at: Moment(Timestamp(receipt.settled_at_ms)),
            input_tokens: grouped(all_input(receipt)),
            output_tokens: grouped(receipt.output_tokens),
            amount,
        })
        .collect()
}

/// The page of one receipt, without what stands around it.
#[must_use]
pub fn page(proof: &Proof, key: String) -> ReceiptPage {
    let receipt = &proof.receipt;
    ReceiptPage {
        handle: String::new(),
        is_admin: false,
        id: receipt.id.to_string(),
        amount: dollars(receipt.amount_nanodollars),
        what: match (receipt.corrects, receipt.amount_nanodollars) {
            (None, _) => "for a call of",
            (Some(_), ..0) => "given back of a call of",
            (Some(_), _) => "more for a call of",
        },
        model: receipt.model.clone(),
        at: Moment(Timestamp(receipt.settled_at_ms)),
        story: story(receipt),
        corrections: proof.corrections.iter().map(correction).collect(),
        total: dollars(proof.total_nanodollars()),
        wrong: proof.wrong.clone().unwrap_or_default(),
        fields: fields(receipt),
        chain: chain(proof),
        key,
    }
}

fn correction(receipt: &Receipt) -> CorrectionRow {
    CorrectionRow {
        id: receipt.id.to_string(),
        amount: dollars(receipt.amount_nanodollars),
        reason: receipt.reason.clone(),
    }
}

fn fields(receipt: &Receipt) -> Vec<(&'static str, String)> {
    let moment = |ms| Moment(Timestamp(ms)).machine();
    let mut fields = vec![
        ("provider", receipt.provider.clone()),
        ("model", receipt.model.clone()),
        ("agent", if receipt.agent.is_empty() { "none named".into() } else { receipt.agent.clone() }),
        ("begun", moment(receipt.held_at_ms)),
        ("over", moment(receipt.settled_at_ms)),
        ("ended", outcome(&receipt.outcome).into()),
        ("paid from", paid_from(receipt)),
        ("held", dollars(receipt.held_nanodollars)),
        ("charged", dollars(receipt.amount_nanodollars)),
        ("charged by", basis(&receipt.basis).into()),
        ("prices", format!("version {}", receipt.price_version)),
        ("fresh input", tokens(receipt.input_tokens)),
        ("written to the cache", tokens(receipt.cache_write_tokens)),
        ("written for long", tokens(receipt.cache_write_long_tokens)),
        ("read from the cache", tokens(receipt.cache_read_tokens)),
        ("output", tokens(receipt.output_tokens)),
    ];
    for (name, text) in [("priced usage", &receipt.counted), ("provider's words", &receipt.usage)] {
        if !text.is_empty() {
            fields.push((name, text.clone()));
        }
    }
    fields.extend(receipt.corrects.map(|id| ("corrects", id.to_string())));
    if !receipt.reason.is_empty() {
        fields.push(("reason", receipt.reason.clone()));
    }
    if is_under_own_key(receipt) {
        fields.push(("worth", receipt.worth_nanodollars.map_or_else(|| "not known here".into(), dollars)));
    }
    fields
}

fn paid_from(receipt: &Receipt) -> String {
    let period = if is_under_own_key(receipt) { "your own account at the provider" } else { &receipt.period };
    format!("{period}, on {}", receipt.day)
}

fn is_under_own_key(receipt: &Receipt) -> bool {
    receipt.payer == Payer::OwnKey.as_str()
}

fn chain(proof: &Proof) -> Vec<(&'static str, String)> {
    let receipt = &proof.receipt;
    if receipt.seq == 0 {
        return vec![("number", "none: it is from before receipts were chained".into())];
    }
    let mut chain = vec![
        ("number", receipt.seq.to_string()),
        ("the one before", if receipt.previous.is_empty() { "none".into() } else { receipt.previous.clone() }),
        ("digest", receipt.hash.clone()),
    ];
    if let Some(voucher) = &proof.vouched_by {
        chain.push(("signature", voucher.signature.clone()));
        if voucher.seq != receipt.seq {
            chain.push(("signed with", format!("number {}, which vouches for all before it", voucher.seq)));
        }
    }
    chain
}

/// Who called and how it ended, where that is worth a word.
fn note(receipt: &Receipt) -> String {
    let agent: String = if receipt.agent.len() > 16 {
        receipt.agent.chars().take(8).chain(['…']).collect()
    } else {
        receipt.agent.clone()
    };
    let ended = match receipt.outcome.as_str() {
        "completed" | "corrected" => "",
        other => outcome(other),
    };
    let own_key = if is_under_own_key(receipt) { "under your own key" } else { "" };
    let why = match receipt.corrects {
        Some(_) => format!("a correction: {}", receipt.reason),
        None if receipt.reason.is_empty() => String::new(),
        None => "at the dearest price".into(),
    };
    [agent.as_str(), own_key, ended, &why].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn outcome(word: &str) -> &str {
    match word {
        "completed" => "completed",
        "client_gone" => "the program hung up",
        "upstream_broke" => "the provider broke off",
        "refused" => "the provider refused",
        "recovered" => "the server stopped meanwhile",
        "corrected" => "a correction",
        other => other,
    }
}

fn basis(word: &str) -> &str {
    match word {
        "provider" => "the provider's own figures",
        "observed" => "what was seen of the answer",
        "held" => "what was held for it",
        "operator" => "the operator, by hand",
        "rerated" => "what was counted, at other prices",
        other => other,
    }
}

/// How the amount came about, in a sentence or two.
fn story(receipt: &Receipt) -> String {
    let amount = dollars(receipt.amount_nanodollars);
    if let Some(corrected) = receipt.corrects {
        let reason = &receipt.reason;
        return format!(
            "This corrects receipt {corrected}, which stays as it was, by {amount}, on the day of that call: {reason}."
        );
    }
    let told = told(receipt, &amount);
    if receipt.reason.is_empty() { told } else { format!("{told} In particular: {}.", receipt.reason) }
}

/// The same, of a receipt that corrects none.
fn told(receipt: &Receipt, amount: &str) -> String {
    let used = format!(
        "{} in, {} of them read from the cache, and {} out",
        tokens(all_input(receipt)),
        grouped(receipt.cache_read_tokens),
        grouped(receipt.output_tokens)
    );
    let held = dollars(receipt.held_nanodollars);
    if is_under_own_key(receipt) {
        return story_under_own_key(receipt, &used);
    }
    match (receipt.basis.as_str(), receipt.outcome.as_str()) {
        ("provider", "refused") => {
            format!("The provider refused the call, so nothing was charged of the {held} held for it.")
        }
        ("provider", _) if receipt.amount_nanodollars == 0 => {
            format!("The provider charged nothing, so the {held} held for the call was free again.")
        }
        ("provider", _) => format!(
            "Before the call {held} was held, the most it could cost. The provider then said what it used: {used}. At the \
             prices of version {} that is {amount}.",
            receipt.price_version
        ),
        ("observed", _) => format!(
            "The answer ended before the provider said its figures. What had come by then was counted: {used}, at the prices \
             of version {}. That is {amount}, no more than the {held} that was held.",
            receipt.price_version
        ),
        ("held", "recovered") => format!(
            "The server stopped while the call was in flight, and nobody knows what it used by then. So {amount} is charged \
             of the {held} held for it, the most it could cost."
        ),
        ("held", _) => format!(
            "The provider's last figures did not come, and it may charge what the answer did not show. So {amount} is charged \
             of the {held} held for the call, the most it could cost."
        ),
        _ => format!("Charged was {amount} of the {held} held for the call."),
    }
}

/// The same of a call that its owner pays the provider for.
fn story_under_own_key(receipt: &Receipt, used: &str) -> String {
    let whose = "The call went out under your own key, so your budget paid nothing";
    match (receipt.outcome.as_str(), receipt.worth_nanodollars) {
        ("refused", _) => format!("{whose}, and the provider refused it."),
        (_, Some(worth)) => format!(
            "{whose}, and the provider bills you. What was seen of it: {used}. At the prices of version {} that is worth {}.",
            receipt.price_version,
            dollars(worth)
        ),
        (_, None) => format!(
            "{whose}, and the provider bills you. What was seen of it: {used}. What all of it is worth is not known here."
        ),
    }
}

fn tokens(count: i64) -> String {
    if count == 1 { "1 token".into() } else { format!("{} tokens", grouped(count)) }
}

fn all_input(receipt: &Receipt) -> i64 {
    receipt.input_tokens + receipt.cache_write_tokens + receipt.cache_write_long_tokens + receipt.cache_read_tokens
}

#[derive(Deserialize)]
pub struct Export {
    month: Option<String>,
    #[serde(rename = "as", default)]
    kind: Kind,
}

/// What is made of a month's receipts.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Csv,
    Jsonl,
}

/// `GET /spend/export?month=2026-11&as=csv`, or `as=jsonl`: the month's receipts in their order, made as they are sent.
pub async fn export(State(app): State<App>, session: Session, Query(asked): Query<Export>) -> Answer {
    let month = match &asked.month {
        Some(text) => Month::parse(text).ok_or(Error::NotFound)?,
        None => app.quota.this_month(),
    };
    let (kind, ending, line, head): (_, _, fn(&Receipt) -> String, _) = match asked.kind {
        Kind::Csv => ("text/csv; charset=utf-8", "csv", csv, CSV_HEAD),
        Kind::Jsonl => ("application/jsonl", "jsonl", jsonl, ""),
    };
    let receipts = app.quota.receipts_of_month(session.account, month).await?;
    let head = futures_util::stream::iter([Ok(Bytes::from_static(head.as_bytes()))]);
    let lines = receipts.map_ok(move |some| Bytes::from(some.iter().map(line).collect::<String>()));
    // Too late for another answer: it breaks off, and the log says why.
    let lines = lines.inspect_err(|error| tracing::warn!(?error, "an export of receipts broke off"));
    let name = format!("attachment; filename=\"berth-{}-{month}.{ending}\"", session.handle);
    let body = Body::from_stream(futures_util::StreamExt::chain(head, lines));
    let headers = [(header::CONTENT_TYPE, kind.to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, body).into_response())
}

const CSV_HEAD: &str = "number,id,day,begun,over,provider,model,agent,outcome,basis,input_tokens,cache_write_tokens,\
    cache_write_long_tokens,cache_read_tokens,output_tokens,held_dollars,amount_dollars,price_version,corrects,reason,digest,\
    payer,worth_dollars\r\n";

/// A line of RFC 4180.
fn csv(receipt: &Receipt) -> String {
    let moment = |ms| Moment(Timestamp(ms)).machine();
    let columns = [
        receipt.seq.to_string(),
        receipt.id.to_string(),
        receipt.day.clone(),
        moment(receipt.held_at_ms),
        moment(receipt.settled_at_ms),
        text(&receipt.provider),
        text(&receipt.model),
        text(&receipt.agent),
        text(&receipt.outcome),
        text(&receipt.basis),
        receipt.input_tokens.to_string(),
        receipt.cache_write_tokens.to_string(),
        receipt.cache_write_long_tokens.to_string(),
        receipt.cache_read_tokens.to_string(),
        receipt.output_tokens.to_string(),
        plain(receipt.held_nanodollars),
        plain(receipt.amount_nanodollars),
        text(&receipt.price_version),
        receipt.corrects.map(|id| id.to_string()).unwrap_or_default(),
        text(&receipt.reason),
        receipt.hash.clone(),
        text(&receipt.payer),
        receipt.worth_nanodollars.map(plain).unwrap_or_default(),
    ];
    columns.join(",") + "\r\n"
}

fn jsonl(receipt: &Receipt) -> String {
    serde_json::to_string(receipt).expect("a receipt is always JSON") + "\n"
}

/// Dollars without a sign before them.
fn plain(nanodollars: i64) -> String {
    dollars(nanodollars).replace('$', "")
}

/// What somebody else named, quoted, and so that no spreadsheet takes it for a formula.
fn text(said: &str) -> String {
    let guard = if said.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !said.contains([',', '"', '\r', '\n']) {
        return said.to_owned();
    }
    format!("\"{guard}{}\"", said.replace('"', "\"\""))
}
