//! Export of a month's receipts as CSV (RFC 4180) or JSON lines.

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse as _;
use futures_util::TryStreamExt as _;
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::clock::Timestamp;
use crate::error::Error;
use crate::http::format::{Moment, dollars};
use crate::http::problem::HandlerResult;
use crate::quota::{Month, Receipt};

#[derive(Deserialize)]
pub struct ExportQuery {
    month: Option<String>,
    #[serde(rename = "as", default)]
    kind: ExportFormat,
}

/// The file format of an export.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum ExportFormat {
    #[default]
    Csv,
    Jsonl,
}

/// `GET /usage/export?month=2026-11&as=csv` or `as=jsonl`: the month's receipts in their order. The body is streamed
/// from the database, so a month of any size takes little memory.
pub async fn export(State(app): State<App>, session: Session, Query(asked): Query<ExportQuery>) -> HandlerResult {
    let month = match &asked.month {
        Some(text) => Month::parse(text).ok_or(Error::NotFound)?,
        None => app.quota.this_month(),
    };
    let (kind, ending, line, head): (_, _, fn(&Receipt) -> String, _) = match asked.kind {
        ExportFormat::Csv => ("text/csv; charset=utf-8", "csv", csv, CSV_HEAD),
        ExportFormat::Jsonl => ("application/jsonl", "jsonl", jsonl, ""),
    };
    let receipts = app.quota.receipts_of_month(session.account, month).await?;
    // The header row comes before the first read, so an empty month is a valid file too.
    let head = futures_util::stream::iter([Ok(Bytes::from_static(head.as_bytes()))]);
    let lines = receipts.map_ok(move |some| Bytes::from(some.iter().map(line).collect::<String>()));
    // The status is sent already: the response breaks off, and the log has the reason.
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

/// An amount in dollars without the dollar sign.
fn plain(nanodollars: i64) -> String {
    dollars(nanodollars).replace('$', "")
}

/// Text that others chose (model, agent, reason), guarded against formula injection and quoted where it has to be.
fn text(said: &str) -> String {
    let guard = if said.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    if guard.is_empty() && !said.contains([',', '"', '\r', '\n']) {
        return said.to_owned();
    }
    format!("\"{guard}{}\"", said.replace('"', "\"\""))
}
