//! `berth quota ..`: what accounts may do with AI calls.

use anyhow::Context as _;
use clap::{Args, Subcommand};

use super::spend;
use crate::accounts::AccountView;
use crate::app::App;
use crate::config::parse_dollars;
use crate::control_socket::{self, OPERATOR};
use crate::handle::Handle;
use crate::money::Nanodollars;
use crate::quota::admission::{AccountLimits, CreditGrant};
use crate::quota::dollars;

#[derive(Subcommand)]
pub(super) enum Word {
    /// An account's limits, and the remainder of each.
    Show { handle: String },
    /// What an account's calls cost in a month, by model, agent and day; without a handle everybody's.
    Spend {
        handle: Option<String>,
        /// Such as 2026-11; the present one unless said.
        #[arg(long)]
        month: Option<String>,
    },
    /// Change an account's limits; "usual" for the installation's. Reaches its next call.
    Set {
        handle: String,
        #[command(flatten)]
        changes: Changes,
    },
    /// Give an account money beyond its allowances, until it is used; with a minus, take it back.
    Credit {
        handle: String,
        /// US dollars, such as 2.50.
        #[arg(allow_hyphen_values = true, value_parser = signed_dollars)]
        amount: Nanodollars,
        /// What it is for; the account's owner sees it.
        #[arg(long, default_value = "")]
        note: String,
    },
}

/// What `set` changes; the rest stays.
#[derive(Args)]
#[group(required = true, multiple = true)]
pub(super) struct Changes {
    /// US dollars a calendar month.
    #[arg(long, value_parser = money)]
    month: Option<OwnOrUsual<Nanodollars>>,
    /// US dollars a day.
    #[arg(long, value_parser = money)]
    day: Option<OwnOrUsual<Nanodollars>>,
    /// Calls begun in a minute.
    #[arg(long, value_parser = count)]
    requests: Option<OwnOrUsual<i64>>,
    /// Tokens used in a minute.
    #[arg(long, value_parser = count)]
    tokens: Option<OwnOrUsual<i64>>,
    /// Calls in flight.
    #[arg(long, value_parser = count)]
    at_once: Option<OwnOrUsual<i64>>,
}

/// A limit to be set: `Some` is the account's own, `None` the installation's.
#[derive(Clone, Copy)]
struct OwnOrUsual<L>(Option<L>);

pub(super) async fn run(app: &App, word: Word) -> anyhow::Result<()> {
    match word {
        Word::Show { handle } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            show(app, &account).await
        }
        Word::Spend { handle, month } => {
            let month = spend::month(app, month.as_deref())?;
            match handle {
                Some(handle) => {
                    let account = app.accounts.account(&Handle::parse(&handle)?).await?;
                    spend::of_account(app, &account, month).await
                }
                None => spend::of_everybody(app, month).await,
            }
        }
        Word::Set { handle, changes } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            let mut own = app.quota.admission.own_limits(account.id).await?;
            changes.apply(&mut own);
            app.quota.admission.set_limits(&account.handle, own, OPERATOR).await?;
            tell(app, &account.handle).await?;
            show(app, &account).await
        }
        Word::Credit { handle, amount, note } => {
            let account = app.accounts.account(&Handle::parse(&handle)?).await?;
            let credit = CreditGrant { account: account.id, handle: &account.handle, nanodollars: amount, note: &note };
            app.quota.admission.give_credit(credit, OPERATOR).await?;
            tell(app, &account.handle).await?;
            show(app, &account).await
        }
    }
}

impl Changes {
    fn apply(&self, own: &mut AccountLimits) {
        change(self.month, &mut own.month_nanodollars);
        change(self.day, &mut own.day_nanodollars);
        change(self.requests, &mut own.requests_a_minute);
        change(self.tokens, &mut own.tokens_a_minute);
        change(self.at_once, &mut own.calls_at_once);
    }
}

fn change<L>(to: Option<OwnOrUsual<L>>, limit: &mut Option<L>) {
    if let Some(OwnOrUsual(value)) = to {
        *limit = value;
    }
}

async fn show(app: &App, account: &AccountView) -> anyhow::Result<()> {
    let (limits, spend) = (app.quota.admission.limits(account.id).await?, app.quota.reports.budget(account.id).await?);
    let or_none = |limit: Option<String>| limit.unwrap_or_else(|| "no limit".into());
    println!("month            {} of {}", dollars(spend.spent_nanodollars), dollars(limits.month_nanodollars));
    println!("credit           {}", dollars(spend.credit_nanodollars));
    println!("left             {}", dollars(spend.left_nanodollars));
    println!("a day            {}", or_none(limits.day_nanodollars.map(dollars)));
    println!("calls a minute   {}", or_none(limits.requests_a_minute.map(|n| n.to_string())));
    println!("tokens a minute  {}", or_none(limits.tokens_a_minute.map(|n| n.to_string())));
    println!("calls at once    {}", limits.calls_at_once);
    Ok(())
}

/// The running platform goes by it from the next call on.
async fn tell(app: &App, handle: &Handle) -> anyhow::Result<()> {
    if let Some(instance) = app.instances.by_handle(handle) {
        control_socket::nudge(&app.config.control_socket(), instance.id).await?;
    }
    Ok(())
}

fn money(text: &str) -> anyhow::Result<OwnOrUsual<Nanodollars>> {
    own_or_usual(text, |text| parse_dollars(text).context("write an amount in US dollars such as 5 or 2.50"))
}

fn count(text: &str) -> anyhow::Result<OwnOrUsual<i64>> {
    own_or_usual(text, |text| text.parse::<u32>().map(i64::from).context("write a whole number"))
}

fn own_or_usual<L>(text: &str, own: impl FnOnce(&str) -> anyhow::Result<L>) -> anyhow::Result<OwnOrUsual<L>> {
    Ok(OwnOrUsual(if text == "usual" { None } else { Some(own(text)?) }))
}

/// An amount that may be given with a minus.
pub(super) fn signed_dollars(text: &str) -> anyhow::Result<Nanodollars> {
    let taken_back = text.strip_prefix('-');
    let amount =
        parse_dollars(taken_back.unwrap_or(text)).context("write an amount in US dollars such as 5 or -2.50")?;
    Ok(if taken_back.is_some() { -amount } else { amount })
}
