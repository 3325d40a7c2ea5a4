//! `berth quota ..`: AI budgets, rate limits and credit of accounts.

use anyhow::Context as _;
use berth_ground::handle::Handle;
use berth_ground::money::Nanodollars;
use clap::{Args, Subcommand};

use super::spend;
use crate::accounts::AccountView;
use crate::app::App;
use crate::config::parse_dollars;
use crate::control_socket::{self, OPERATOR};
use crate::quota::admission::{AccountLimits, CreditGrant};
use crate::quota::dollars;

#[derive(Subcommand)]
pub(super) enum QuotaCommand {
    /// Show the budget and limits of an account.
    Show { handle: String },
    /// Show the cost of AI calls in a month by model, agent and day: of one account, or of all without HANDLE.
    Spend {
        handle: Option<String>,
        /// The month, such as 2026-11; by default the current one.
        #[arg(long)]
        month: Option<String>,
    },
    /// Change the limits of an account, from its next call on; "default" returns to the limit of the settings.
    Set {
        handle: String,
        #[command(flatten)]
        changes: LimitArgs,
    },
    /// Grant an account credit beyond its allowances, which does not expire; a negative amount takes credit back.
    Credit {
        handle: String,
        /// US dollars, such as 2.50.
        #[arg(allow_hyphen_values = true, value_parser = signed_dollars)]
        amount: Nanodollars,
        /// The reason, which the account's owner sees.
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// The limits to change; the others stay.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub(super) struct LimitArgs {
    /// US dollars per calendar month.
    #[arg(long, value_name = "DOLLARS", value_parser = money)]
    month: Option<LimitOverride<Nanodollars>>,
    /// US dollars per day.
    #[arg(long, value_name = "DOLLARS", value_parser = money)]
    day: Option<LimitOverride<Nanodollars>>,
    /// Calls per minute.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    requests: Option<LimitOverride<i64>>,
    /// Tokens per minute.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    tokens: Option<LimitOverride<i64>>,
    /// Concurrent calls.
    #[arg(long, value_name = "COUNT", value_parser = count)]
    concurrent: Option<LimitOverride<i64>>,
}

/// A limit to be set: `Some` is the account's own, `None` the installation's.
#[derive(Clone, Copy)]
struct LimitOverride<L>(Option<L>);

pub(super) async fn run(app: &App, command: QuotaCommand) -> anyhow::Result<()> {
    match command {
        QuotaCommand::Show { handle } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            show(app, &account).await
        }
        QuotaCommand::Spend { handle, month } => {
            let month = spend::month(app, month.as_deref())?;
            match handle {
                Some(handle) => {
                    let account = app.accounts.account(&Handle::parse(&handle)?).await?;
                    spend::of_account(app, &account, month).await
                }
                None => spend::of_all_accounts(app, month).await,
            }
        }
        QuotaCommand::Set { handle, changes } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            let mut own = app.quota.admission.own_limits(account.id).await?;
            changes.apply(&mut own);
            app.quota.admission.set_limits(&account.handle, own, OPERATOR).await?;
            tell(app, &account.handle).await?;
            show(app, &account).await
        }
        QuotaCommand::Credit { handle, amount, note } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            let credit = CreditGrant { account: account.id, handle: &account.handle, nanodollars: amount, note: &note };
            app.quota.admission.give_credit(credit, OPERATOR).await?;
            tell(app, &account.handle).await?;
            show(app, &account).await
        }
    }
}

impl LimitArgs {
    fn apply(&self, own: &mut AccountLimits) {
        change(self.month, &mut own.month_nanodollars);
        change(self.day, &mut own.day_nanodollars);
        change(self.requests, &mut own.requests_a_minute);
        change(self.tokens, &mut own.tokens_a_minute);
        change(self.concurrent, &mut own.calls_at_once);
    }
}

fn change<L>(to: Option<LimitOverride<L>>, limit: &mut Option<L>) {
    if let Some(LimitOverride(value)) = to {
        *limit = value;
    }
}

async fn show(app: &App, account: &AccountView) -> anyhow::Result<()> {
    let (limits, spend) = (app.quota.admission.limits(account.id).await?, app.quota.reports.budget(account.id).await?);
    let or_none = |limit: Option<String>| limit.unwrap_or_else(|| "no limit".into());
    println!("month              {} of {}", dollars(spend.spent_nanodollars), dollars(limits.month_nanodollars));
    println!("credit             {}", dollars(spend.credit_nanodollars));
    println!("remaining          {}", dollars(spend.left_nanodollars));
    println!("per day            {}", or_none(limits.day_nanodollars.map(dollars)));
    println!("calls per minute   {}", or_none(limits.requests_a_minute.map(|n| n.to_string())));
    println!("tokens per minute  {}", or_none(limits.tokens_a_minute.map(|n| n.to_string())));
    println!("concurrent calls   {}", limits.calls_at_once);
    Ok(())
}

/// Has the running platform read the limits again, so that they hold from the next call on.
async fn tell(app: &App, handle: &Handle) -> anyhow::Result<()> {
    if let Some(instance) = app.instances.by_handle(handle) {
        control_socket::nudge(&app.config.control_socket(), instance.id).await?;
    }
    Ok(())
}

fn money(text: &str) -> anyhow::Result<LimitOverride<Nanodollars>> {
    own_or_default(text, |text| {
        parse_dollars(text).context("write an amount in US dollars such as 5 or 2.50, or \"default\"")
    })
}

fn count(text: &str) -> anyhow::Result<LimitOverride<i64>> {
    own_or_default(text, |text| text.parse::<u32>().map(i64::from).context("write a whole number, or \"default\""))
}

fn own_or_default<L>(text: &str, own: impl FnOnce(&str) -> anyhow::Result<L>) -> anyhow::Result<LimitOverride<L>> {
    Ok(LimitOverride(if text == "default" { None } else { Some(own(text)?) }))
}

/// Parses an amount that may be negative.
pub(super) fn signed_dollars(text: &str) -> anyhow::Result<Nanodollars> {
    let negative = text.strip_prefix('-');
    let amount = parse_dollars(negative.unwrap_or(text)).context("write an amount in US dollars such as 5 or -2.50")?;
    Ok(if negative.is_some() { -amount } else { amount })
}
