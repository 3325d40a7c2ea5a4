//! `berth user ..`: accounts.

use berth_ground::handle::Handle;
use clap::Subcommand;

use crate::accounts::{AccountState, AccountView, Role};
use crate::app::App;
use crate::control_socket::{self, OPERATOR};
use crate::quota::dollars;

#[derive(Subcommand)]
pub(super) enum UserCommand {
    /// List all accounts.
    List,
    /// Show one account: role, state, passkeys, recovery codes, instance and spend.
    Show { handle: String },
    /// Suspend an account: end its sessions, stop its instance, and refuse logins and wakes.
    Suspend { handle: String },
    /// Lift the suspension of an account.
    Restore { handle: String },
    /// Schedule the deletion of an account.
    ///
    /// Its sessions end and its instance stops now. Its container, files and logins are destroyed after
    /// BERTH_DELETE_AFTER_SECONDS; until then `cancel-deletion` cancels that.
    Delete { handle: String },
    /// Cancel a scheduled deletion, requested by the owner or by an operator, before the files are destroyed.
    CancelDeletion { handle: String },
}

pub(super) async fn run(app: &App, command: UserCommand) -> anyhow::Result<()> {
    match command {
        UserCommand::List => {
            println!("{:<32} {:<7} {:<19} {:>8}", "HANDLE", "ROLE", "STATE", "PASSKEYS");
            for account in app.accounts.accounts().await? {
                println!(
                    "{:<32} {:<7} {:<19} {:>8}",
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
            println!("{handle} is suspended: its sessions have ended, its instance stops, its files are kept.");
        }
        UserCommand::Restore { handle } => {
            let handle = Handle::parse(&handle)?;
            app.accounts.restore(&handle, OPERATOR).await?;
            nudge(app, &handle).await?;
            println!("The suspension of {handle} is lifted: its owner can log in and wake the instance again.");
        }
        UserCommand::Delete { handle } => {
            let handle = Handle::parse(&handle)?;
            let due = app.accounts.schedule_deletion_of(&handle, OPERATOR).await?;
            nudge(app, &handle).await?;
            let days = due.since(app.clock.now()).as_secs_f64() / 86_400.0;
            println!(
                "{handle} is scheduled for deletion: its sessions have ended, its instance stops, and in {days:.1} days its \
                 container, files and logins are destroyed."
            );
            println!("To cancel before that: berth user cancel-deletion {handle}");
        }
        UserCommand::CancelDeletion { handle } => {
            let handle = Handle::parse(&handle)?;
            let was_scheduled = app.accounts.account(&handle).await?.state == AccountState::Deleting;
            app.accounts.cancel_deletion_of(&handle, OPERATOR).await?;
            nudge(app, &handle).await?;
            if was_scheduled {
                println!("The deletion of {handle} is cancelled. Its files and logins are unchanged.");
            } else {
                println!("No deletion of {handle} was scheduled. Nothing is changed.");
            }
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
        AccountState::Deleting => "deletion scheduled",
        AccountState::Deleted => "deleted",
    }
}
