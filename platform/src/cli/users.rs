//! `berth user ..`: accounts.

use clap::Subcommand;

use crate::accounts::{AccountState, AccountView, Role};
use crate::app::App;
use crate::control_socket::{self, OPERATOR};
use crate::handle::Handle;
use crate::quota::dollars;

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// Every account, one a line.
    List,
    /// One account: what it logs in with, its instance, its spend.
    Show { handle: String },
    /// End its sessions, stop its instance, and refuse log-ins to it and wakes of it.
    Suspend { handle: String },
    /// Undo a suspension.
    Restore { handle: String },
    /// End its sessions, stop its instance, and destroy container, files and logins after BERTH_DELETE_AFTER_SECONDS.
    Delete { handle: String },
    /// Undo a deletion, the owner's or yours, while that can be done.
    Keep { handle: String },
}

pub(super) async fn run(app: &App, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::List => {
            println!("{:<32} {:<7} {:<10} {:>8}", "HANDLE", "ROLE", "STATE", "PASSKEYS");
            for account in app.accounts.accounts().await? {
                println!(
                    "{:<32} {:<7} {:<10} {:>8}",
                    account.handle.as_str(),
                    role(&account),
                    state(&account),
                    account.passkeys
                );
            }
        }
        UserCommand::Show { handle } => show(app, &Handle::parse(&handle)?).await?,
        UserCommand::Suspend { handle } => {
            let handle = Handle::parse(&handle)?;
            app.accounts.suspend(&handle, OPERATOR).await?;
            nudge(app, &handle).await?;
            println!("{handle} is suspended: logged out everywhere, its instance stops, its files are kept.");
        }
        UserCommand::Restore { handle } => {
            let handle = Handle::parse(&handle)?;
            app.accounts.restore(&handle, OPERATOR).await?;
            nudge(app, &handle).await?;
            println!("{handle} is restored: its owner can log in and wake it again.");
        }
        UserCommand::Delete { handle } => {
            let handle = Handle::parse(&handle)?;
            let due = app.accounts.schedule_deletion_of(&handle, OPERATOR).await?;
            nudge(app, &handle).await?;
            let days = due.since(app.clock.now()).as_secs_f64() / 86_400.0;
            println!(
                "{handle} leaves: logged out everywhere, its instance stops, and in {days:.1} days all of it is destroyed."
            );
            println!("Until then: berth user keep {handle}");
        }
        UserCommand::Keep { handle } => {
            let handle = Handle::parse(&handle)?;
            app.accounts.cancel_deletion_of(&handle, OPERATOR).await?;
            nudge(app, &handle).await?;
            println!("{handle} is kept, with its files and logins as they were.");
        }
    }
    Ok(())
}

async fn show(app: &App, handle: &Handle) -> anyhow::Result<()> {
    let account = app.accounts.account(handle).await?;
    let spend = app.quota.reports.budget(account.id).await?;
    println!("handle           {}", account.handle);
    println!("id               {}", account.id);
    println!("role             {}", role(&account));
    println!("state            {}", state(&account));
    println!("passkeys         {}", account.passkeys);
    println!("recovery codes   {} left", account.recovery_codes_left);
    if let Some(instance) = app.instances.by_account(account.id) {
        println!("instance         {} ({})", instance.id, instance.fact().as_str());
    }
    println!(
        "spent {}    {} of {}",
        spend.period,
        dollars(spend.spent_nanodollars),
        dollars(spend.allowance_nanodollars)
    );
    Ok(())
}

async fn nudge(app: &App, handle: &Handle) -> anyhow::Result<()> {
    if let Some(instance) = app.instances.by_handle(handle) {
        control_socket::nudge(&app.config.control_socket(), instance.id).await?;
    }
    Ok(())
}

fn role(account: &AccountView) -> &'static str {
    match account.role {
        Role::Member => "member",
        Role::Admin => "admin",
    }
}

fn state(account: &AccountView) -> &'static str {
    match account.state {
        AccountState::Active => "active",
        AccountState::Suspended => "suspended",
        AccountState::Deleting => "leaving",
        AccountState::Deleted => "gone",
    }
}
