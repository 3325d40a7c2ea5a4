//! Sample data for the pages about prices.

use std::collections::BTreeMap;

use berth::db::AccountId;
use berth_ground::clock::Timestamp;
use berth_ground::money::Nanodollars;

use berth::quota::ledger::{AccountRepricing, RepricingResult};
use berth::quota::prices::{
    Price, PriceCatalogue, PriceChanges, PriceDifference, PriceTable, PricedModel, TableEvent, Tariff, TokenRates,
};
use berth::web::admin::prices::{self, PricesPage};
use berth::web::admin::repricing::{self, RepricingForm, RepricingPage};
use berth_providers::ServiceTier;
use uuid::Uuid;

use super::{NOON, admin_head, html};

fn price(input: i64) -> Price {
    let rates = TokenRates {
        input,
        cache_write: Some(input * 5 / 4),
        cache_write_long: Some(input * 2),
        cache_read: Some(input / 10),
        output: input * 5,
    };
    let tariff = Tariff { rates, long: None };
    Price {
        max_input_tokens: Some(1_000_000),
        max_output_tokens: Some(128_000),
        long_above_tokens: Some(272_000),
        tiers: BTreeMap::from([(ServiceTier::Flex, tariff.clone()), (ServiceTier::Priority, tariff.clone())]),
        standard: tariff,
        us_permille: Some(1100),
        web_search_nanodollars: Some(Nanodollars(10_000_000)),
        call_nanodollars: Nanodollars::ZERO,
    }
}

fn catalogue() -> PriceCatalogue {
    let names =
        ["claude-haiku-5-5", "claude-opus-5-5", "claude-sonnet-4-6-with-a-very-long-name-20260401", "gpt-6.1-sol"];
    let model = |(at, name): (usize, &&str)| PricedModel {
        provider: if name.starts_with("gpt") { "openai" } else { "anthropic" }.into(),
        model: (*name).into(),
        price: price(100_000_000 * (1 + at as i64 * 13)),
    };
    let difference = |name: &str, before: Option<i64>, after: Option<i64>| PriceDifference {
        provider: "anthropic".into(),
        model: name.into(),
        before: before.map(price),
        after: after.map(price),
    };
    PriceCatalogue {
        version: "5b1c0de9a7f3".into(),
        models: names.iter().enumerate().map(model).collect(),
        changes: PriceChanges { models: 4, new: 1, changed: 2, gone: 1 },
        differences: vec![
            difference(names[0], Some(100_000_000), Some(75_000_000)),
            difference(names[1], None, Some(1_400_000_000)),
            difference(names[2], Some(3_000_000_000), None),
            PriceDifference {
                before: Some(Price { us_permille: None, ..price(2_000_000_000) }),
                ..difference(names[3], None, Some(2_000_000_000))
            },
        ],
    }
}

fn table(version: &str, source: &str, is_in_force: bool) -> PriceTable {
    let by = if source == "built in" { "" } else { "olivia" };
    PriceTable {
        version: version.into(),
        source: source.into(),
        is_in_force,
        is_whole: true,
        imported: TableEvent { at: Some(Timestamp(NOON)), by: by.into() },
        activated: TableEvent { at: is_in_force.then_some(Timestamp(NOON)), by: by.into() },
    }
}

fn page() -> PricesPage {
    let tables = [
        table("5b1c0de9a7f3", "model_prices_and_context_window-2026-11-20.json", true),
        table("0c9aa11b42d7", "built in", false),
    ];
    PricesPage {
        head: admin_head("olivia"),
        version: "5b1c0de9a7f3".into(),
        tables: tables.into_iter().map(prices::table_row).collect(),
        models: prices::models("/admin/prices", &catalogue().models, String::new()),
        table: String::new(),
        source: String::new(),
        note: String::new(),
    }
}

pub fn all() -> String {
    html(&page())
}

pub fn refused() -> String {
    let note = "This table cannot be read: reading the price of a: a price of input or output is missing.".into();
    let models = prices::models("/admin/prices", &catalogue().models, "nothing of that name".into());
    html(&PricesPage { table: "{\"a\": {}}".into(), source: "mine.json".into(), note, models, ..page() })
}

pub fn version() -> String {
    let page = prices::version_page(
        admin_head("olivia"),
        table("0c9aa11b42d7", "built in", false),
        &catalogue(),
        "claude".into(),
    );
    html(&page)
}

pub fn rerating(note: &str) -> String {
    let account = |number, receipts, nanodollars| AccountRepricing {
        account: AccountId(Uuid::from_u128(number)),
        receipts,
        nanodollars: Nanodollars(nanodollars),
    };
    let found = RepricingResult {
        looked_at: 1204,
        changed: 61,
        nanodollars: Nanodollars(-1_420_000_000),
        without_price: 3,
        not_counted: 2,
        accounts: vec![account(1, 60, -1_500_000_000), account(2, 1, 80_000_000)],
    };
    html(&RepricingPage {
        head: admin_head("olivia"),
        version: "0c9aa11b42d7".into(),
        typed: RepricingForm { since: "2026-11-01".into(), until: "soon".into(), account: String::new() },
        found: note.is_empty().then(|| repricing::repricing_view(&found, &[])),
        is_done: false,
        note: note.into(),
        field: if note.is_empty() { "" } else { "until" },
    })
}
