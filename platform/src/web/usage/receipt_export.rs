//! Export of a month's receipts as CSV (RFC 4180) or JSON lines.

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::header;
use axum::response::IntoResponse as _;
use berth_ground::clock::Timestamp;
use berth_ground::error::Error;
use berth_ground::money::Nanodollars;
use futures_util::TryStreamExt as _;
use serde::Deserialize;

use crate::accounts::Session;
use crate::app::App;
use crate::http::format::{Moment, dollars};
use crate::http::problem::HandlerResult;
use crate::quota::Receipt;

#[derive(Deserialize)]
pub struct ExportQuery {
    month: Option<String>,
    #[serde(rename = "as", default)]
    format: ExportFormat,
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
        Some(text) => text.parse().map_err(|_| Error::NotFound)?,
        None => app.quota.reports.this_month(),
    };
    let format = asked.format;
    let receipts = app.quota.ledger.receipts_of_month(session.account, month).await?;
    // The header row comes before the first read, so an empty month is a valid file too.
    let head = futures_util::stream::iter([Ok(format.head())]);
    let lines = receipts.map_ok(move |some| format.lines(&some));
    // The status is already sent: the response is truncated, and the log has the reason.
    let lines = lines.inspect_err(|error| tracing::warn!(?error, "an export of receipts broke off"));
    let name = format!("attachment; filename=\"berth-{}-{month}.{}\"", session.handle, format.extension());
    let body = Body::from_stream(futures_util::StreamExt::chain(head, lines));
    let headers = [(header::CONTENT_TYPE, format.content_type().to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, body).into_response())
}

impl ExportFormat {
    fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Jsonl => "application/jsonl",
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Jsonl => "jsonl",
        }
    }

    fn head(self) -> Bytes {
        match self {
            Self::Csv => csv_lines([COLUMNS.map(str::to_owned)]),
            Self::Jsonl => Bytes::new(),
        }
    }

    fn lines(self, receipts: &[Receipt]) -> Bytes {
        match self {
            Self::Csv => csv_lines(receipts.iter().map(record)),
            Self::Jsonl => receipts.iter().map(jsonl).collect::<String>().into(),
        }
    }
}

const COLUMNS: [&str; 23] = [
    "number",
    "id",
    "day",
    "begun",
    "over",
    "provider",
    "model",
    "agent",
    "outcome",
    "basis",
    "input_tokens",
    "cache_write_tokens",
    "cache_write_long_tokens",
    "cache_read_tokens",
    "output_tokens",
    "held_dollars",
    "amount_dollars",
    "price_version",
    "corrects",
    "reason",
    "digest",
    "payer",
    "worth_dollars",
];

/// Rows of CSV (RFC 4180: CRLF, quoted where needed).
fn csv_lines(records: impl IntoIterator<Item = [String; COLUMNS.len()]>) -> Bytes {
    let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
    for record in records {
        writer.write_record(record).expect("writing into memory does not fail");
    }
    writer.into_inner().expect("writing into memory does not fail").into()
}

/// A receipt in the order of [`COLUMNS`].
fn record(receipt: &Receipt) -> [String; COLUMNS.len()] {
    let moment = |ms| Moment(Timestamp(ms)).machine();
    [
        receipt.seq.to_string(),
        receipt.id.to_string(),
        receipt.day.to_string(),
        moment(receipt.held_at_ms),
        moment(receipt.settled_at_ms),
        guarded(&receipt.provider),
        guarded(&receipt.model),
        guarded(&receipt.agent),
        guarded(&receipt.outcome),
        guarded(&receipt.basis),
        receipt.input_tokens.to_string(),
        receipt.cache_write_tokens.to_string(),
        receipt.cache_write_long_tokens.to_string(),
        receipt.cache_read_tokens.to_string(),
        receipt.output_tokens.to_string(),
        plain(receipt.held_nanodollars),
        plain(receipt.amount_nanodollars),
        guarded(&receipt.price_version),
        receipt.corrects.map(|id| id.to_string()).unwrap_or_default(),
        guarded(&receipt.reason),
        receipt.hash.clone(),
        guarded(&receipt.payer),
        receipt.worth_nanodollars.map(plain).unwrap_or_default(),
    ]
}

fn jsonl(receipt: &Receipt) -> String {
    serde_json::to_string(receipt).expect("a receipt is always JSON") + "\n"
}

/// An amount in dollars without the dollar sign.
fn plain(amount: Nanodollars) -> String {
    dollars(amount).replace('$', "")
}

/// Untrusted text (model, agent, reason). A spreadsheet interprets a field that begins like this as a formula, which
/// quoting does not prevent (CSV injection); the apostrophe makes it text.
fn guarded(text: &str) -> String {
    let guard = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("{guard}{text}")
}
