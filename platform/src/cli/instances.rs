//! `berth instance ..`: instances.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use berth_ground::clock::Timestamp;
use berth_ground::handle::Handle;
use clap::Subcommand;

use super::instance_settings::{self, SettingArgs};
use super::upgrades;
use crate::app::App;
use crate::control_socket::{self, OPERATOR};
use crate::instances::{Cause, Fact, Instance, OpenWork, Wish};
use crate::sharing::ShareId;

#[derive(Subcommand)]
pub(super) enum InstanceCommand {
    /// List all instances.
    List,
    /// Show one instance: settings, state, the work that keeps it awake, and its latest changes of state.
    Show { handle: String },
    /// Wake an instance, and wait until it is awake.
    Wake { handle: String },
    /// Put an instance to sleep: freeze it, or stop it with --stop.
    Sleep {
        handle: String,
        /// Stop the container instead of freezing it, so that it uses no memory.
        #[arg(long)]
        stop: bool,
    },
    /// Change the image, the size or the sleep timeouts of an instance.
    Set {
        handle: String,
        #[command(flatten)]
        changes: SettingArgs,
    },
    /// Replace the container by one with the current image and limits. The volume is kept.
    Upgrade {
        #[arg(required_unless_present = "all")]
        handle: Option<String>,
        /// Upgrade every awake or frozen instance with an outdated container.
        #[arg(long, conflicts_with = "handle")]
        all: bool,
        /// With --all: the number of upgrades at the same time.
        #[arg(long, default_value_t = 2, requires = "all")]
        parallel: usize,
    },
    /// List what an instance's owner shares with others, or remove one share.
    Shares {
        handle: String,
        /// Remove the share with this id.
        #[arg(long, value_name = "ID")]
        remove: Option<ShareId>,
    },
    /// Remove the container of an instance; the volume with its files is kept.
    ///
    /// `wake` makes a new container on that volume.
    Remove { handle: String },
}

/// How many of the latest changes `show` prints.
const HISTORY: u64 = 10;
/// How often the database is read while waiting for the running platform.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait until a wish is fulfilled.
const WAIT_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn run(app: &App, command: InstanceCommand) -> anyhow::Result<()> {
    match command {
        InstanceCommand::List => {
            println!("{:<32} {:<13} {:<19} {:<15} CAUSE", "HANDLE", "FACT", "WISH", "ADDRESS");
            for instance in app.instances.all() {
                let status = instance.status();
                println!(
                    "{:<32} {:<13} {:<19} {:<15} {}",
                    instance.handle.as_str(),
                    status.fact.as_str(),
                    wish_label(status.wish),
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
        InstanceCommand::Upgrade { handle: None, parallel, .. } => upgrades::upgrade_all(app, parallel.max(1)).await,
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
        println!("Recorded. The platform is not running; the change takes effect when it starts (berth serve).");
        return Ok(());
    }
    let came_true = async {
        loop {
            let status = app.instances.recorded(instance.id).await?;
            if until.contains(&status.fact) {
                return anyhow::Ok(status);
            }
            // A failure from before the command is not its result.
            if status.fact == Fact::Failed && status.since >= asked_at {
                anyhow::bail!(
                    "{}",
                    status.failure.unwrap_or_else(|| "The change failed; see the platform's log.".into())
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    };
    let status = tokio::time::timeout(WAIT_TIMEOUT, came_true).await.context(
        "The change takes longer than a minute and continues; see berth instance show, and the platform's log.",
    )??;
    println!("{} is {}.", instance.handle, status.fact.as_str());
    Ok(())
}

async fn show(app: &App, instance: &Arc<Instance>) -> anyhow::Result<()> {
    let status = instance.status();
    println!("handle     {}", instance.handle);
    println!("id         {}", instance.id);
    println!("url        {}", app.config.hosts.instance_origin(&instance.handle));
    let settings = instance.settings();
    println!("image      {}", settings.image);
    println!("size       {}", settings.size);
    println!("address    {}", instance.address());
    println!("wish       {}", wish_label(status.wish));
    println!("fact       {} ({})", status.fact.as_str(), status.cause.as_str());
    if status.is_stuck(app.clock.now()) {
        println!("stuck      for over five minutes; to recover: berth instance sleep {} --stop", instance.handle);
    }
    if let Some(failure) = status.failure {
        println!("failure    {failure}");
    }
    let (counts, paths) = (app.webhooks.counts(instance.id), app.webhooks.paths(instance.id).len());
    println!("webhooks   {} deliveries waiting, {} dead letters, {paths} paths", counts.waiting, counts.dead_letters);
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
                    "; last work: {}, {} s before",
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

/// Prints the work that keeps it awake, or since when it is idle, as the running platform reports it.
async fn show_why(app: &App, instance: &Arc<Instance>) -> anyhow::Result<()> {
    let now = app.clock.now();
    let Some(ledger) = control_socket::ask_why(&app.config.control_socket(), instance.id).await? else {
        println!("work       unknown, because the platform is not running");
        return Ok(());
    };
    let ago = |at: Timestamp| format!("{} s", now.since(at).as_secs());
    for OpenWork { work, count, since, holds, moved_at } in &ledger.open {
        let moved = if *holds { String::new() } else { format!(", last data {} ago", ago(*moved_at)) };
        println!("work       {count} {}, for {}{moved}", work.as_str(), ago(*since));
    }
    for job in &ledger.jobs {
        println!(
            "work       job {}, for {}, ends within {} s",
            job.name,
            ago(job.since),
            job.until.since(now).as_secs()
        );
    }
    if let Some(last) = ledger.last {
        println!("last work  {}, {} ago", last.work.as_str(), ago(last.at));
    }
    match ledger.sleeps_at {
        Some(at) => println!("sleeps     in {} s, unless new work begins", at.since(now).as_secs()),
        None if instance.is_up() => println!("sleeps     not before this work has ended"),
        None => println!("idle       for {}", ago(ledger.idle_since)),
    }
    Ok(())
}

/// The word that the admin pages use for a scheduled deletion; the stored word is older than they are.
fn wish_label(wish: Wish) -> &'static str {
    match wish {
        Wish::Leaving => "deletion scheduled",
        wish => wish.as_str(),
    }
}

fn find(app: &App, handle: &str) -> anyhow::Result<Arc<Instance>> {
    let handle = Handle::parse(handle)?;
    app.instances
        .by_handle(&handle)
        .with_context(|| format!("There is no instance {handle}. List all: berth instance list."))
}
