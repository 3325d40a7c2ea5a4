//! View models of receipts: rows of a list, the fields of one receipt, and the explanation of its amount. Pure.

use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;

use crate::http::format::{Moment, column, dollars, grouped};
use crate::quota::Receipt;
use crate::quota::admission::Payer;
use crate::quota::ledger::ReceiptProof;

/// Receipts on one page of the list.
pub const PAGE_SIZE: u64 = 50;

/// A receipt in a list.
pub struct ReceiptRow {
    pub id: String,
    pub model: String,
    /// The agent and the outcome, where they are not the usual.
    pub note: String,
    pub at: Moment,
    pub input_tokens: String,
    pub output_tokens: String,
    pub amount: String,
}

/// A field of a receipt, in words.
pub struct ReceiptField {
    pub name: &'static str,
    pub text: String,
}

/// A correction of a receipt.
pub struct CorrectionRow {
    pub id: String,
    pub amount: String,
    pub reason: String,
}

/// The cursor of the next page; `None` when this page is not full.
#[must_use]
pub fn next(receipts: &[Receipt]) -> Option<i64> {
    let is_full = u64::try_from(receipts.len()).is_ok_and(|count| count == PAGE_SIZE);
    // Number 1 is the first of the chain.
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

pub(super) fn correction(receipt: &Receipt) -> CorrectionRow {
    CorrectionRow {
        id: receipt.id.to_string(),
        amount: dollars(receipt.amount_nanodollars),
        reason: receipt.reason.clone(),
    }
}

pub(super) fn fields(receipt: &Receipt) -> Vec<ReceiptField> {
    let moment = |ms| Moment(Timestamp(ms)).machine();
    let mut fields = vec![
        field("provider", receipt.provider.clone()),
        field("model", receipt.model.clone()),
        field("agent", if receipt.agent.is_empty() { "no name".into() } else { receipt.agent.clone() }),
        field("started", moment(receipt.held_at_ms)),
        field("finished", moment(receipt.settled_at_ms)),
        field("outcome", outcome(&receipt.outcome)),
        field("paid from", paid_from(receipt)),
        field("held", dollars(receipt.held_nanodollars)),
        field("charged", dollars(receipt.amount_nanodollars)),
        field("based on", basis(&receipt.basis)),
        field("prices", format!("version {}", receipt.price_version)),
        field("fresh input", tokens(receipt.input_tokens)),
        field("written to the cache", tokens(receipt.cache_write_tokens)),
        field("written to the long cache", tokens(receipt.cache_write_long_tokens)),
        field("read from the cache", tokens(receipt.cache_read_tokens)),
        field("output", tokens(receipt.output_tokens)),
    ];
    for (name, text) in [("priced usage", &receipt.counted), ("reported usage", &receipt.usage)] {
        if !text.is_empty() {
            fields.push(field(name, text.clone()));
        }
    }
    fields.extend(receipt.corrects.map(|id| field("corrects", id.to_string())));
    if !receipt.reason.is_empty() {
        fields.push(field("reason", receipt.reason.clone()));
    }
    if is_under_own_key(receipt) {
        fields.push(field("worth", receipt.worth_nanodollars.map_or_else(|| "unknown here".to_owned(), dollars)));
    }
    fields
}

fn field(name: &'static str, text: impl Into<String>) -> ReceiptField {
    ReceiptField { name, text: text.into() }
}

fn paid_from(receipt: &Receipt) -> String {
    if is_under_own_key(receipt) {
        format!("your own account at the provider, on {}", receipt.day)
    } else {
        format!("{}, on {}", receipt.period, receipt.day)
    }
}

fn is_under_own_key(receipt: &Receipt) -> bool {
    receipt.payer == Payer::OwnKey.as_str()
}

pub(super) fn chain(proof: &ReceiptProof) -> Vec<ReceiptField> {
    let receipt = &proof.receipt;
    // Receipts written before the hash chain was introduced have no number in it.
    if receipt.seq == 0 {
        return vec![field("number", "none: the receipt is older than the hash chain")];
    }
    let mut chain = vec![
        field("number", receipt.seq.to_string()),
        field("previous digest", if receipt.previous.is_empty() { "none".into() } else { receipt.previous.clone() }),
        field("digest", receipt.hash.clone()),
    ];
    if let Some(voucher) = &proof.vouched_by {
        chain.push(field("signature", voucher.signature.clone()));
        if voucher.seq != receipt.seq {
            chain.push(field(
                "signed with",
                format!("number {}, which also covers all receipts before it", voucher.seq),
            ));
        }
    }
    chain
}

/// The agent and the outcome, where they are not the usual.
fn note(receipt: &Receipt) -> String {
    // Agents are often named by UUIDs; eight characters tell them apart.
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
        None => "at the highest price".into(),
    };
    [agent.as_str(), own_key, ended, &why].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(", ")
}

fn outcome(word: &str) -> &str {
    match word {
        "completed" => "completed",
        "client_gone" => "the program disconnected",
        "upstream_broke" => "the provider's response broke off",
        "refused" => "refused by the provider",
        "recovered" => "the server stopped during the call",
        "corrected" => "a correction",
        // A word of a later version is shown as it is.
        other => other,
    }
}

fn basis(word: &str) -> &str {
    match word {
        "provider" => "the provider's own figures",
        "observed" => "the part of the response that was received",
        "held" => "the amount held for it",
        "operator" => "the operator, manually",
        "rerated" => "the counted usage, at other prices",
        other => other,
    }
}

/// Explains the amount in a sentence or two.
pub(super) fn story(receipt: &Receipt) -> String {
    let amount = dollars(receipt.amount_nanodollars);
    if let Some(corrected) = receipt.corrects {
        let reason = &receipt.reason;
        return format!(
            "This corrects receipt {corrected} by {amount}, on the day of that call; the receipt itself stays unchanged. Reason: {reason}."
        );
    }
    let told = told(receipt, &amount);
    if receipt.reason.is_empty() { told } else { format!("{told} Details: {}.", receipt.reason) }
}

/// The explanation of a receipt that is not a correction.
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
        ("provider", _) if receipt.amount_nanodollars == Nanodollars::ZERO => {
            format!("The provider charged nothing, so the {held} held for the call was released.")
        }
        ("provider", _) => format!(
            "Before the call {held} was held, the most it could cost. The provider then reported the usage: {used}. At the \
             prices of version {} that is {amount}.",
            receipt.price_version
        ),
        // The received part of the stream is a lower bound of the usage; the hold is an upper bound.
        ("observed", _) => format!(
            "The response ended before the provider reported its usage. The part received was counted: {used}, at the prices \
             of version {}. That is {amount}, no more than the {held} that was held.",
            receipt.price_version
        ),
        // The journal has the intent of the call and no settlement: the process died in between.
        ("held", "recovered") => format!(
            "The server stopped while the call was in flight, so its usage is unknown. Therefore {amount} is charged \
             of the {held} held for it, the most it could cost."
        ),
        ("held", _) => format!(
            "The provider's final usage figures are missing, and it may charge for more than the response showed. Therefore {amount} is charged \
             of the {held} held for the call, the most it could cost."
        ),
        _ => format!("Of the {held} held for the call, {amount} was charged."),
    }
}

/// The explanation of a call under the account's own key, which the provider bills directly.
fn story_under_own_key(receipt: &Receipt, used: &str) -> String {
    let own_key = "The call used your own key, so your budget was not charged";
    match (receipt.outcome.as_str(), receipt.worth_nanodollars) {
        ("refused", _) => format!("{own_key}, and the provider refused it."),
        (_, Some(worth)) => format!(
            "{own_key}, and the provider bills you. Observed usage: {used}. At the prices of version {} that is worth {}.",
            receipt.price_version,
            dollars(worth)
        ),
        (_, None) => {
            format!("{own_key}, and the provider bills you. Observed usage: {used}. Its total value is not known here.")
        }
    }
}

fn tokens(count: i64) -> String {
    if count == 1 { "1 token".into() } else { format!("{} tokens", grouped(count)) }
}

fn all_input(receipt: &Receipt) -> i64 {
    receipt.input_tokens + receipt.cache_write_tokens + receipt.cache_write_long_tokens + receipt.cache_read_tokens
}
