//! `berth quota spend`: the cost of AI calls in a month, of one account or of all.

use anyhow::Context as _;
use berth_ground::money::Nanodollars;

use crate::accounts::AccountView;
use crate::app::App;
use crate::quota::reports::{AccountOrder, ModelSpend, NamedSpend};
use crate::quota::{Month, dollars};

/// Parses a month such as `2026-11`; the current one without a name.
pub(super) fn month(app: &App, name: Option<&str>) -> anyhow::Result<Month> {
    match name {
        Some(name) => name.parse().context("write the month as 2026-11"),
        None => Ok(app.quota.reports.this_month()),
    }
}

/// Prints one account's month by model, agent and day.
pub(super) async fn of_account(app: &App, account: &AccountView, month: Month) -> anyhow::Result<()> {
    let sums = app.quota.reports.spent_in(account.id, month).await?;
    by_model(&sums.by_model);
    table("AGENT", &sums.by_agent);
    if sums.other_agents_nanodollars != Nanodollars::ZERO {
        line("other agents", "", "", "", sums.other_agents_nanodollars);
    }
    table("DAY", &sums.by_day);
    line(&month.to_string(), "", "", "", sums.total_nanodollars());
    Ok(())
}

/// Prints the month of all accounts: by model and day, and the accounts that spent most.
pub(super) async fn of_all_accounts(app: &App, month: Month) -> anyhow::Result<()> {
    let all = app.quota.reports.month_totals(month).await?;
    by_model(&all.by_model);
    table("DAY", &all.by_day);
    println!("\n{:<40} {:>18} {:>18}", "ACCOUNT, HIGHEST COST FIRST", "ALLOWANCE", "COST");
    let accounts = app.accounts.accounts().await?;
    for one in app.quota.reports.accounts_in(month, AccountOrder::Dearest, 0).await? {
        let handle = accounts.iter().find(|view| view.id == one.account).map(|view| view.handle.to_string());
        let (allowance, spent) = (dollars(one.allowance_nanodollars), dollars(one.spent_nanodollars));
        println!("{:<40} {allowance:>18} {spent:>18}", handle.unwrap_or_else(|| one.account.to_string()));
    }
    println!("\n{month}: {}. Accounts with calls: {}", dollars(all.spent_nanodollars), all.accounts);
    println!("Accounts at 80 % of their allowance or more: {}", all.nearly_spent);
    Ok(())
}

fn by_model(models: &[ModelSpend]) {
    head("MODEL");
    for sum in models {
        let [calls, input, output] = [sum.calls, sum.input_tokens, sum.output_tokens].map(|count| count.to_string());
        line(&sum.model, &calls, &input, &output, sum.amount_nanodollars);
    }
}

fn table(label: &str, sums: &[NamedSpend]) {
    head(label);
    for sum in sums {
        let [calls, input, output] = [sum.calls, sum.input_tokens, sum.output_tokens].map(|count| count.to_string());
        let name = if sum.name.is_empty() { "unnamed" } else { &sum.name };
        line(name, &calls, &input, &output, sum.amount_nanodollars);
    }
}

fn head(label: &str) {
    println!("\n{label:<40} {:>8} {:>12} {:>12} {:>18}", "CALLS", "TOKENS IN", "TOKENS OUT", "COST");
}

fn line(name: &str, calls: &str, input: &str, output: &str, nanodollars: Nanodollars) {
    println!("{name:<40} {calls:>8} {input:>12} {output:>12} {:>18}", dollars(nanodollars));
}
