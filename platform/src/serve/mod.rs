//! `berth serve`: startup and graceful shutdown. It builds the modules in order, reconciles the instances, then
//! listens; shutdown drains in the reverse order.

mod front;
mod internal;
mod listeners;

use std::sync::Arc;

use anyhow::Context as _;
use berth_containers::remote::RemoteHost;
use berth_ground::clock::Clock;
use berth_net::server::{self, Lanes, PeerLimit};
pub use front::{Front, public_router};
pub use internal::internal_router;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::App;
use crate::config::Config;
use crate::control_socket;
use crate::db::Db;
use crate::edge::WebhookDispatcher;
use crate::ops::Jobs;

/// Runs the platform until `shutdown`, and returns when everything in flight has drained.
pub async fn run(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    std::fs::create_dir_all(config.data_dir.join("run"))
        .with_context(|| format!("making BERTH_DATA_DIR {}", config.data_dir.display()))?;
    // Both ports are bound before the database is opened: they serve as a lock, so a second platform on this machine
    // ends here, before it could open the books.
    let public = listeners::bind(config.listen, "BERTH_LISTEN").await?;
    let internal = listeners::bind(config.internal_listen, "BERTH_INTERNAL_LISTEN").await?;
    let host = Arc::new(RemoteHost::new(config.containers.socket.clone()));
    let db = Db::open_and_migrate(&config.database_url).await?;
    let app = App::on(db, config, Clock::system(), host).await?;
    app.confirm_secret().await?;

    // Crash recovery before anything listens: calls and instances that the last process left unfinished are settled, so
    // that no request sees them.
    app.instances.begin().await?;
    app.quota.begin().await?;
    let tasks = TaskTracker::new();
    tasks.spawn(app.instances.clone().run(shutdown.clone()));
    tasks.spawn(WebhookDispatcher::new(app.clone()).run(shutdown.clone()));
    tasks.spawn(app.sharing.clone().keep_reloading(shutdown.clone()));
    // The lanes are dropped last: database connections may have been opened on them. AI calls have lanes of their own,
    // because parsing a large request occupies a processor for longer than a page visit may wait.
    let (lanes, call_lanes) = (Lanes::one_a_processor()?, Lanes::one_a_processor()?);
    tasks.spawn(listeners::serve_quota_proxy(app.clone(), call_lanes.clone(), shutdown.clone()));
    tasks.spawn(server::serve(internal, internal_router(app.clone()), PeerLimit::Unlimited, shutdown.clone()));
    let jobs = tokio::spawn(Jobs::new(app.db.clone(), app.clock.clone(), &app.modules).run(shutdown.clone()));
    let socket = app.config.control_socket();
    let control = tokio::spawn({
        let (app, shutdown) = (app.clone(), shutdown.clone());
        async move { control_socket::listen(&socket, app, shutdown).await }
    });
    let quota = app.quota.clone();
    tracing::info!(address = %app.config.listen, apex = %app.config.hosts.apex_origin(), "Berth listens");
    let front = public_router(app);
    tasks.spawn(server::serve_on(lanes.clone(), public, front, PeerLimit::Unlimited, shutdown.clone()));
    tasks.close();

    tokio::select! {
        () = shutdown.cancelled() => {}
        // These two tasks end only at shutdown. If one ends early, the process ends too, so that the supervisor
        // restarts it.
        ended = jobs => ended.context("scheduled work panicked")?.context("scheduled work ended")?,
        ended = control => ended.context("the control socket panicked")?.context("the control socket ended")?,
    }
    shutdown.cancel();
    // The drain: calls end before the ledger, or the receipts of the last ones would have to wait for the next start.
    tasks.wait().await;
    quota.settled().await;
    tracing::info!("Berth ends");
    Ok(())
}
