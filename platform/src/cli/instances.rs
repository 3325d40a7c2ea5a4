//! `berth instance ..`: instances.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use clap::Subcommand;

use super::instance_settings::{self, SettingArgs};
use super::upgrades;
use crate::app::App;
use crate::clock::Timestamp;
use crate::control_socket::{self, OPERATOR};
use crate::handle::Handle;
use crate::instances::{Cause, Fact, Instance, OpenWork, Wish};
use crate::sharing::ShareId;

#[derive(Subcommand)]
pub(super) enum InstanceCommand {
    /// Every instance, one a line.
    List,
    /// One instance: state, why, and what happened lately.
    Show { handle: String },
    /// Wake it, and wait until it is awake.
    Wake { handle: String },
    /// Put it to sleep: frozen, or stopped with --stop.
    Sleep {
        handle: String,
        /// Stop it, so that it keeps no memory at all.
        #[arg(long)]
        stop: bool,
    },
    /// Change its image, its size, or how soon it sleeps.
    Set {
        handle: String,
        #[command(flatten)]
        changes: SettingArgs,
    },
    /// Put a container as it would be made now in the place of the one there: another image, other limits.
    Upgrade {
        #[arg(required_unless_present = "all")]
        handle: Option<String>,
        /// Everyone who is awake or frozen and not as they would be made now.
        #[arg(long, conflicts_with = "handle")]
        all: bool,
        /// How many at the same time, with --all.
        #[arg(long, default_value_t = 2, requires = "all")]
        at_once: usize,
    },
    /// What its owner opened to others; or take one of that back.
    Shares {
        handle: String,
        /// The share of this id.
        #[arg(long)]
        remove: Option<ShareId>,
    },
    /// Remove its container. The volume with its files is kept; wake it to make a new container on it.
    Remove { handle: String },
}

/// How many of the latest changes `show` prints.
const HISTORY: u64 = 10;
/// How often the database is looked at while waiting for the running platform.
const LOOK: Duration = Duration::from_millis(100);
/// How long to wait for a wish to come true.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) async fn run(app: &App, command: InstanceCommand) -> anyhow::Result<()> {
    match command {
        InstanceCommand::List => {
            println!("{:<32} {:<13} {:<10} {:<15} CAUSE", "HANDLE", "FACT", "WISH", "ADDRESS");
            for instance in app.instances.all() {
                let status = instance.status();
                println!(
                    "{:<32} {:<13} {:<10} {:<15} {}",
                    instance.handle.as_str(),
                    status.fact.as_str(),
                    status.wish.as_str(),
                    instance.address(),
                    status.cause.as_str()
                );
            }
            Ok(())
        }
        InstanceCommand::Show { handle } => show(app, &find(app, &handle)?).await,
        InstanceCommand::Wake { handle } => wish(app, &find(app, &handle)?, None, &[Fact::Awake]).await,
        InstanceCommand::Sleep { handle, stop: false } => {
            wish(app, &find(app, &handle)?, Some(Wish::Frozen), &[Fact::Frozen, Fact::Stopped, Fact::Absent]).await
        }
        InstanceCommand::Sleep { handle, stop: true } => {
            wish(app, &find(app, &handle)?, Some(Wish::Stopped), &[Fact::Stopped, Fact::Absent]).await
        }
        InstanceCommand::Set { handle, changes } => instance_settings::set(app, &find(app, &handle)?, changes).await,
        InstanceCommand::Upgrade { handle: Some(handle), .. } => upgrades::upgrade(app, &find(app, &handle)?).await,
        InstanceCommand::Upgrade { handle: None, at_once, .. } => upgrades::upgrade_all(app, at_once.max(1)).await,
        InstanceCommand::Shares { handle, remove } => shares(app, &find(app, &handle)?, remove).await,
        InstanceCommand::Remove { handle } => {
            wish(app, &find(app, &handle)?, Some(Wish::Removed), &[Fact::Removed]).await
        }
    }
}

/// Writes the wish, tells the running platform, and waits until it came true.
async fn wish(app: &App, instance: &Arc<Instance>, sleep: Option<Wish>, until: &[Fact]) -> anyhow::Result<()> {
    let asked_at = app.clock.now();
    match sleep {
        None => app.instances.wake(instance, Cause::OperatorAsked).await?,
        Some(how) => app.instances.sleep(instance, how, Cause::OperatorAsked).await?,
    }
    if !control_socket::nudge(&app.config.control_socket(), instance.id).await? {
        println!("Noted. Berth does not run here just now; it happens when it starts (berth serve).");
        return Ok(());
    }
    let came_true = async {
        loop {
            let status = app.instances.recorded(instance.id).await?;
            if until.contains(&status.fact) {
                return anyhow::Ok(status);
            }
            // An older failure is why it was asked, not what came of it.
            if status.fact == Fact::Failed && status.since >= asked_at {
                anyhow::bail!("{}", status.failure.unwrap_or_else(|| "It failed; the platform's log says why.".into()));
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    let status = tokio::time::timeout(PATIENCE, came_true)
        .await
        .context("It takes longer than a minute; see berth instance show, and the platform's log.")??;
    println!("{} is {}.", instance.handle, status.fact.as_str());
    Ok(())
}

async fn show(app: &App, instance: &Arc<Instance>) -> anyhow::Result<()> {
    let status = instance.status();
    println!("handle     {}", instance.handle);
    println!("id         {}", instance.id);
    println!("url        {}", app.config.hosts.instance_origin(&instance.handle));
    let terms = instance.terms();
    println!("image      {}", terms.image);
    println!("size       {}", terms.size);
    println!("address    {}", instance.address());
    println!("wish       {}", status.wish.as_str());
    println!("fact       {} ({})", status.fact.as_str(), status.cause.as_str());
    if status.is_stuck(app.clock.now()) {
        println!("stuck      for over five minutes; berth instance sleep {} --stop frees it", instance.handle);
    }
    if let Some(failure) = status.failure {
        println!("failure    {failure}");
    }
    let (counts, paths) = (app.webhooks.counts(instance.id), app.webhooks.paths(instance.id).len());
    println!("webhooks   {} waiting, {} dead letters, {paths} paths open", counts.waiting, counts.dead_letters);
    println!("alarms     {}", app.alarms.of(instance.id).await?.len());
    show_why(app, instance).await?;
    for change in app.instances.history(instance.id, HISTORY).await? {
        let ago = app.clock.now().since(change.at).as_secs();
        println!(
            "           {ago:>8} s ago  {} -> {}  ({}){}",
            change.from.as_str(),
            change.to.as_str(),
            change.cause.as_str(),
            change
                .last
                .map(|last| format!(
                    "; last at work: {}, {} s before",
                    last.work.as_str(),
                    change.at.since(last.at).as_secs()
                ))
                .unwrap_or_default()
        );
    }
    Ok(())
}

/// Lists the open shares, after it removed the share `remove`, if given.
async fn shares(app: &App, instance: &Arc<Instance>, remove: Option<ShareId>) -> anyhow::Result<()> {
    if let Some(id) = remove {
        app.sharing.remove(instance, id, OPERATOR).await?;
        control_socket::nudge(&app.config.control_socket(), instance.id).await?;
    }
    for share in app.sharing.of(instance.id).iter() {
        println!("{}  {}", share.id, share.summary());
    }
    Ok(())
}

/// Why it is awake, or since when and after what it idles, as the running platform has it.
async fn show_why(app: &App, instance: &Arc<Instance>) -> anyhow::Result<()> {
    let now = app.clock.now();
    let Some(ledger) = control_socket::ask_why(&app.config.control_socket(), instance.id).await? else {
        println!("at work    Berth does not run here just now");
        return Ok(());
    };
    let ago = |at: Timestamp| format!("{} s", now.since(at).as_secs());
    for OpenWork { work, count, since, holds, moved_at } in &ledger.open {
        let moved = if *holds { String::new() } else { format!(", last moved {} ago", ago(*moved_at)) };
        println!("at work    {count} {}, for {}{moved}", work.as_str(), ago(*since));
    }
    for job in &ledger.jobs {
        println!(
            "at work    job {}, for {}, {} s more at most",
            job.name,
            ago(job.since),
            job.until.since(now).as_secs()
        );
    }
    if let Some(last) = ledger.last {
        println!("last work  {}, {} ago", last.work.as_str(), ago(last.at));
    }
    match ledger.sleeps_at {
        Some(at) => println!("sleeps     in {} s, if nothing more happens", at.since(now).as_secs()),
        None if instance.is_up() => println!("sleeps     not before what is at work has ended"),
        None => println!("idle       for {}", ago(ledger.idle_since)),
    }
    Ok(())
}

fn find(app: &App, handle: &str) -> anyhow::Result<Arc<Instance>> {
    let handle = Handle::parse(handle)?;
    app.instances.by_handle(&handle).with_context(|| format!("There is no instance {handle}. See berth instance list."))
}
