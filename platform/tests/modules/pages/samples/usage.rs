//! Sample data for the pages about AI usage.

use berth::db::{AccountId, HoldId, InstanceId};
use berth::http::format::{self, Moment};
use berth::quota::ledger::{BudgetAlert, ReceiptProof};
use berth::quota::reports::{
    AccountBudget, BillDifference, BilledAmounts, CallConcurrency, DayBudget, ModelSpend, MonthTotals, NamedSpend,
    RateLimitView, SpendBreakdown,
};
use berth::quota::{Month, Receipt};
use berth::web::admin::bill_comparison;
use berth::web::admin::limits::{LimitField, UserLimitsPage};
use berth::web::admin::usage::{self as admin_usage, AllUsagePage, UserUsageRow};
use berth::web::own_keys::{KeyRefusalView, OwnKeyView, OwnKeysPage, ProviderRow};
use berth::web::usage::budget_view::{self, BudgetAlertView};
use berth::web::usage::page::{self as usage_page, MonthRow, UsagePage};
use berth::web::usage::receipt_view;
use berth::web::usage::receipts::{self, ReceiptsPage};
use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;
use uuid::Uuid;

use super::{NOON, admin_head, head, html};

const AGENTS: [&str; 4] = ["", "3f2b9c1e-77f1-4b1f-9d3a-5e6f7a8b9c0d", "reviewer", "nightly-digest"];

fn sum(name: &str, calls: i64, amount: i64) -> NamedSpend {
    NamedSpend {
        name: name.into(),
        calls,
        input_tokens: calls * 4440,
        output_tokens: calls * 753,
        amount_nanodollars: Nanodollars(amount),
    }
}

fn model(name: &str, calls: i64, amount: i64) -> ModelSpend {
    ModelSpend {
        provider: "anthropic".into(),
        model: name.into(),
        calls,
        input_tokens: calls * 4440,
        output_tokens: calls * 753,
        amount_nanodollars: Nanodollars(amount),
    }
}

/// The first `days` days of a month, some of them without calls.
fn sums(month: &str, days: i64) -> SpendBreakdown {
    let by_day = (1..=days).filter(|day| day % 6 != 0).map(|day| {
        let amount = (day * 7919 % 31) * 11_000_000 + 2_345_678;
        sum(&format!("{month}-{day:02}"), day * 31 % 17 + 1, amount)
    });
    let by_day: Vec<NamedSpend> = by_day.collect();
    let total: i64 = by_day.iter().map(|day| day.amount_nanodollars.0).sum();
    SpendBreakdown {
        by_model: vec![
            model("claude-sonnet-4-6", 141, total * 7 / 10),
            model("gpt-6.1-sol", 37, total * 2 / 10),
            model("claude-haiku-5-5", 212, total - total * 7 / 10 - total * 2 / 10),
        ],
        by_agent: vec![
            sum(AGENTS[1], 201, total / 2),
            sum(AGENTS[0], 120, total / 4),
            sum(AGENTS[2], 60, total / 8),
            sum(AGENTS[3], 8, total / 16),
        ],
        other_agents_nanodollars: Nanodollars(total - total / 2 - total / 4 - total / 8 - total / 16),
        by_day,
    }
}

fn left(spent: i64, held: i64) -> AccountBudget {
    AccountBudget {
        period: "2026-11".parse().unwrap(),
        allowance_nanodollars: Nanodollars(5_000_000_000),
        credit_nanodollars: Nanodollars(if spent > 0 { 2_000_000_000 } else { 0 }),
        spent_nanodollars: Nanodollars(spent),
        held_nanodollars: Nanodollars(held),
        left_nanodollars: Nanodollars(5_000_000_000 - spent - held),
        resets_on: "2026-12-01".parse().unwrap(),
        today: DayBudget {
            day: "2026-11-20".parse().unwrap(),
            allowance_nanodollars: (spent > 0).then_some(Nanodollars(500_000_000)),
            spent_nanodollars: Nanodollars(spent / 20),
            held_nanodollars: Nanodollars(held),
            left_nanodollars: (spent > 0).then_some(Nanodollars(500_000_000 - spent / 20 - held)),
            resets_on: "2026-11-21".parse().unwrap(),
        },
        requests_a_minute: Some(RateLimitView {
            limit: 60,
            remaining: if spent > 0 { 57 } else { 60 },
            full_in_seconds: 3,
        }),
        tokens_a_minute: (spent > 0).then_some(RateLimitView {
            limit: 400_000,
            remaining: 291_040,
            full_in_seconds: 17,
        }),
        calls_at_once: CallConcurrency { limit: 5, in_flight: u32::from(held > 0) * 2 },
    }
}

fn months() -> Vec<MonthRow> {
    let row = |period: &str, spent: i64, current| MonthRow {
        period: period.into(),
        name: format::month(period),
        spent: format::about(Nanodollars(spent)),
        current,
    };
    vec![row("2026-11", 3_381_000_000, true), row("2026-10", 4_120_000_000, false), row("2026-09", 31_000, false)]
}

/// Alerts of a month that is nearly spent and a day that is wholly spent.
pub fn alerts() -> Vec<BudgetAlertView> {
    let alert = |period: &str, percent| BudgetAlert {
        account_id: AccountId(Uuid::from_u128(7)),
        period: period.parse().unwrap(),
        percent,
        allowance_nanodollars: Nanodollars(5_000_000_000),
        spent_nanodollars: Nanodollars(4_000_000_000),
        raised_at_ms: NOON,
    };
    let mut left = left(4_000_000_000, 0);
    left.today.spent_nanodollars = Nanodollars(500_000_000);
    budget_view::budget_alert_views(&[alert("2026-11", 80), alert("2026-11-20", 100)], &left)
}

fn shown(page: UsagePage) -> String {
    html(&page)
}

pub fn full() -> String {
    let november: Month = "2026-11".parse().unwrap();
    let (sums, mut today) = (sums("2026-11", 20), sums("2026-11", 1));
    today.by_agent.truncate(2);
    let page = usage_page::page(admin_head("alice"), november, &sums, Some(&today));
    let (left, receipts) = (left(sums.total_nanodollars().0, 42_000_000), receipt_view::rows(&calls(8)));
    let left = Some(budget_view::budget_view(&left));
    shown(UsagePage { left, alerts: alerts(), months: months(), receipts, ..page })
}

/// A past month of 31 days.
pub fn past() -> String {
    let page = usage_page::page(admin_head("alice"), "2026-10".parse().unwrap(), &sums("2026-10", 31), None);
    let mut months = months();
    (months[0].current, months[1].current) = (false, true);
    shown(UsagePage { months, receipts: receipt_view::rows(&calls(3)), ..page })
}

pub fn first_day() -> String {
    let day = vec![sum("2026-11-01", 1, 31_000)];
    let one = SpendBreakdown {
        by_model: vec![model("berth-demo", 1, 31_000)],
        by_agent: vec![sum("", 1, 31_000)],
        other_agents_nanodollars: Nanodollars::ZERO,
        by_day: day,
    };
    let page = usage_page::page(admin_head("alice"), "2026-11".parse().unwrap(), &one, Some(&one));
    let receipts = receipt_view::rows(&calls(1));
    shown(UsagePage { left: Some(budget_view::budget_view(&left(31_000, 0))), receipts, ..page })
}

pub fn empty() -> String {
    let nothing = SpendBreakdown {
        by_model: vec![],
        by_agent: vec![],
        other_agents_nanodollars: Nanodollars::ZERO,
        by_day: vec![],
    };
    let page = usage_page::page(admin_head("alice"), "2026-11".parse().unwrap(), &nothing, Some(&nothing));
    shown(UsagePage { left: Some(budget_view::budget_view(&left(0, 0))), ..page })
}

/// Receipts, the newest first.
fn calls(count: usize) -> Vec<Receipt> {
    let endings = ["completed", "client_gone", "completed", "recovered", "upstream_broke", "refused"];
    let call = |number: usize| {
        let nth = i64::try_from(count - number).unwrap();
        let ending = endings[number % endings.len()];
        Receipt {
            id: HoldId(Uuid::from_u128(0x0B9A_3C1E_77F1_4B1F_9D3A_5E6F_7A8B_9C00 + number as u128)),
            account_id: AccountId(Uuid::from_u128(7)),
            instance_id: InstanceId(Uuid::from_u128(8)),
            period: "2026-11".parse().unwrap(),
            day: "2026-11-20".parse().unwrap(),
            provider: "anthropic".into(),
            model: ["claude-sonnet-4-6", "claude-haiku-5-5", "gpt-6.1-sol"][number % 3].into(),
            agent: AGENTS[number % 4].into(),
            price_version: "5b1c0de9a7f3".into(),
            held_nanodollars: Nanodollars(123_000_000),
            amount_nanodollars: Nanodollars(if ending == "refused" { 0 } else { 1_415_900 + nth * 2_718_000 }),
            input_tokens: 1204,
            cache_write_tokens: 0,
            cache_write_long_tokens: 0,
            cache_read_tokens: 18_300,
            output_tokens: 512 * nth,
            basis: if ending == "recovered" { "held" } else { "provider" }.into(),
            outcome: ending.into(),
            counted: r#"{"input_tokens":1204,"cache_read_tokens":18300,"output_tokens":512,"in_us":false}"#.into(),
            usage: r#"{"input_tokens":1204,"cache_creation_input_tokens":0,"cache_read_input_tokens":18300,"output_tokens":512,"service_tier":"standard"}"#.into(),
            held_at_ms: NOON - 60_000 * number as i64 - 4200,
            settled_at_ms: NOON - 60_000 * number as i64,
            corrects: None,
            reason: String::new(),
            seq: nth,
            previous: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            hash: "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".into(),
            signature: "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155".repeat(2),
            payer: "budget".into(),
            worth_nanodollars: None,
        }
    };
    (0..count).map(call).collect()
}

pub fn receipts() -> String {
    html(&ReceiptsPage {
        head: head("alice"),
        receipts: receipt_view::rows(&calls(10)),
        newest: false,
        before: Some(71),
        period: "2026-11".into(),
    })
}

pub fn receipt(wrong: Option<&str>) -> String {
    let receipt = calls(18).remove(0);
    let voucher = Receipt { seq: 21, ..receipt.clone() };
    let wrong = wrong.map(Into::into);
    let correction = Receipt {
        amount_nanodollars: Nanodollars(-700_000),
        corrects: Some(receipt.id),
        reason: "by the prices of version 5b1c0de9a7f3".into(),
        ..calls(1).remove(0)
    };
    let corrections = vec![correction];
    let proof = ReceiptProof { digested: String::new(), vouched_by: Some(voucher), corrections, wrong, receipt };
    let page = receipts::page(
        head("alice"),
        &proof,
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".into(),
    );
    html(&page)
}

/// The receipt of a call under an own key, with or without a known price.
pub fn receipt_under_own_key(worth: Option<i64>) -> String {
    let worth_nanodollars = worth.map(Nanodollars);
    let receipt = calls(18).remove(0);
    let receipt = Receipt {
        amount_nanodollars: Nanodollars::ZERO,
        held_nanodollars: Nanodollars::ZERO,
        payer: "own_key".into(),
        worth_nanodollars,
        ..receipt
    };
    let voucher = Some(receipt.clone());
    let proof =
        ReceiptProof { digested: String::new(), vouched_by: voucher, corrections: Vec::new(), wrong: None, receipt };
    let page = receipts::page(
        head("alice"),
        &proof,
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".into(),
    );
    html(&page)
}

pub fn own_keys(some: bool) -> String {
    let row = |provider: &str, name: &str| ProviderRow {
        provider: provider.into(),
        name: name.into(),
        is_served: true,
        key: None,
        note: String::new(),
    };
    let mut providers = vec![row("anthropic", "Anthropic"), row("openai", "OpenAI"), row("groq", "groq")];
    if some {
        let refused =
            KeyRefusalView { at: Moment(Timestamp(NOON)), how: "it does not recognise this key (401)".into() };
        let added = Moment(Timestamp(NOON - 86_400_000));
        providers[0].key = Some(OwnKeyView { last_four: "x7Qa".into(), added, refused: Some(refused) });
        providers[1].note = "There is a space or a line break in it. Paste the key alone.".into();
        providers[2].key = Some(OwnKeyView { last_four: "B-_9".into(), added, refused: None });
        providers[2].is_served = false;
    }
    html(&OwnKeysPage { head: head("alice"), providers })
}

fn everybody() -> AllUsagePage {
    let sums = sums("2026-11", 20);
    let all = MonthTotals {
        spent_nanodollars: sums.total_nanodollars(),
        accounts: 61,
        nearly_spent: 2,
        by_day: sums.by_day,
        by_model: sums.by_model,
    };
    let row = |handle: &str, today: &str, amount: &str, what: &str, share, tag: &str| UserUsageRow {
        handle: handle.into(),
        today: today.into(),
        amount: amount.into(),
        what: what.into(),
        share,
        tag: tag.into(),
    };
    AllUsagePage {
        is_present: true,
        today: "$0.15".into(),
        held: "$0.042".into(),
        rows: vec![
            row("carol-of-the-north", "$0.1200", "$5.1000", "of $5.00", 10_000, "102 %"),
            row("bob", "–", "$4.4000", "of $5.00, $0.042 held", 8800, "88 %"),
            row("", "–", "$0.8100", "of $5.00", 1620, ""),
            row("dave", "$0.0023", "$0.0420", "of $20.00", 40, ""),
        ],
        before: Some(0),
        after: Some(2),
        ..admin_usage::sums(admin_head("alice"), "2026-11".parse().unwrap(), &all)
    }
}

pub fn of_all() -> String {
    html(&everybody())
}

pub fn of_all_refused() -> String {
    let export = "datum,modell,preis\n2026-11-01,claude-sonnet-4-6,1.25\n".into();
    let note = "Three columns are needed: date (or day, usage_date_utc), model (or model_version), and cost (or cost_usd, amount, amount_usd) in dollars.".into();
    html(&AllUsagePage { export, note, rows: Vec::new(), before: None, after: None, ..everybody() })
}

pub fn of_account() -> String {
    let left = budget_view::budget_view(&left(4_000_000_000, 42_000_000));
    let limit =
        |name, label, typed: &str, usual: &str| LimitField { name, label, typed: typed.into(), usual: usual.into() };
    html(&UserLimitsPage {
        head: admin_head("alice"),
        account: "bob".into(),
        gauges: left.gauges,
        credit: left.credit,
        limits: vec![
            limit("month", "US dollars per month", "20.00", "$5.00"),
            limit("day", "US dollars per day", "two", "no limit"),
            limit("requests", "Calls per minute", "", "60"),
            limit("tokens", "Tokens per minute", "", "no limit"),
            limit("at_once", "Calls at once", "", "5"),
        ],
        amount: String::new(),
        reason: String::new(),
        note: "Enter US dollars such as 5 or 2.50, or leave it empty.".into(),
        field: "day",
    })
}

pub fn compared() -> String {
    let drift = |day: &str, model: &str, billed, booked| BillDifference {
        day: day.parse().unwrap(),
        model: model.into(),
        amounts: BilledAmounts { billed_nanodollars: Nanodollars(billed), booked_nanodollars: Nanodollars(booked) },
    };
    let drifts = [
        drift("2026-11-14", "claude-sonnet-4-6", 1_250_000_000, 1_110_000_000),
        drift("2026-11-15", "claude-opus-5", 0, 31_000_000),
        drift("2026-11-15", "claude-sonnet-4-6", 2_000_000_000, 2_010_000_000),
        drift("2026-11-16", "claude-haiku-5-5", 40_000_000, 40_000_000),
    ];
    html(&bill_comparison::compared(admin_head("alice"), &drifts))
}
