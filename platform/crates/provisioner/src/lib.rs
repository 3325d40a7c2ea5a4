//! The privileged process (privilege separation): serves [`ContainerHost`] on a Unix socket to the platform, which has
//! no Docker socket.
//!
//! It does not trust its clients: there is a fixed set of verbs, every argument is validated, and no argument
//! configures a container's privileges.

mod rules;

use std::convert::Infallible;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use berth_containers::config::ContainerConfig;
use berth_containers::docker::DockerHost;
use berth_containers::protocol::{ProvisionerAnswer, ProvisionerCall, ProvisionerReply, REQUEST_BYTES, read_request};
use berth_containers::{ContainerHost, HostError};
use berth_ground::clock::Clock;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

/// Most concurrent connections; the platform uses at most 33.
const MAX_CONNECTIONS: usize = 64;
/// Timeout for reading a whole request, including the idle time before it.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// Timeout for writing an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// The interval between checks of the network isolation.
const ISOLATION_CHECK_INTERVAL: Duration = Duration::from_secs(30);

type Connection = Framed<UnixStream, LinesCodec>;

/// Serves the Engine of this machine on `config.socket` until `shutdown` completes.
///
/// # Errors
/// When the folder of the volumes is not the provisioner's alone, the socket cannot be created, or another provisioner
/// answers on it.
pub async fn serve(config: ContainerConfig, clock: Clock, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let host = Arc::new(DockerHost::connect(config.clone(), clock));
    host.open_volumes()?;
    tokio::select! {
        // The other branch never completes, so the process ends with its server.
        served = serve_host(Arc::clone(&host) as _, config, shutdown) => served,
        never = keep_isolation(&*host) => match never {},
    }
}

/// Sets up the network isolation at once, and restores it when another program on this host removed it, as a reload of
/// the host's firewall does.
async fn keep_isolation(host: &dyn ContainerHost) -> Infallible {
    let mut logged = None;
    loop {
        let failed = host.ensure_networks().await.err();
        // Logged on changes only: the same failure every 30 s would fill the log.
        if failed != logged {
            match &failed {
                // Only a warning: without the Engine the rules stay in force, and nothing can start.
                Some(error @ (HostError::Unreachable | HostError::Timeout)) => {
                    tracing::warn!("cannot check the isolation of instances: {error}");
                }
                Some(error) => tracing::error!("instances are not isolated, and none is started: {error}"),
                None => tracing::info!("instances are isolated"),
            }
            logged = failed;
        }
        tokio::time::sleep(ISOLATION_CHECK_INTERVAL).await;
    }
}

/// Serves `host` on `config.socket` until `shutdown` completes. Calls in progress are then dropped, which is safe: the
/// platform inspects the actual state again.
///
/// # Errors
/// When the socket cannot be created, or another provisioner answers on it.
pub async fn serve_host(
    host: Arc<dyn ContainerHost>,
    config: ContainerConfig,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (listener, owner) = listen(&config.socket).await?;
    tracing::info!("the provisioner listens on {}", config.socket.display());
    let server = Arc::new(SocketServer { host, config, owner, permits: Arc::new(Semaphore::new(MAX_CONNECTIONS)) });
    let mut connections = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(connections.spawn(Arc::clone(&server).serve_connection(stream))),
                // Probably out of file descriptors: backoff instead of spinning, until a connection ends and frees one.
                Err(error) => {
                    tracing::error!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    connections.shutdown().await;
    // A stale socket is harmless: the next start replaces it.
    if let Err(error) = std::fs::remove_file(&server.config.socket) {
        tracing::warn!("{} stays behind: {error}", server.config.socket.display());
    }
    Ok(())
}

/// Requests memory reclaim from the kernel by writing `bytes` to `file`: the whole work of the hidden verb `reclaim
/// --file FILE --bytes BYTES`. Blocks until the kernel is done; the parent process kills this one after its timeout.
///
/// # Errors
/// When `file` is not a `memory.reclaim` or `memory.force_empty` below the cgroup root, or the kernel refuses.
pub fn reclaim(file: &Path, bytes: u64) -> std::io::Result<()> {
    if !rules::is_reclaim_file(file) {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "this is not a memory.reclaim or memory.force_empty"));
    }
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, bytes.to_string().as_bytes()));
    match written {
        // The kernel reclaimed less than requested. Not a failure: some memory cannot be swapped.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ResourceBusy) => Ok(()),
        other => other,
    }
}

/// The owner and group of the socket file.
#[derive(Clone, Copy)]
struct SocketOwner {
    uid: u32,
    gid: u32,
}

/// Binds the socket under a temporary name, restricts its mode, and renames it: there is no moment at which other users
/// can connect, and the stale socket of a crashed provisioner is replaced.
async fn listen(socket: &Path) -> anyhow::Result<(UnixListener, SocketOwner)> {
    // A live provisioner accepts; the stale socket of a crashed one refuses the connection.
    if UnixStream::connect(socket).await.is_ok() {
        anyhow::bail!("another provisioner answers on {}; stop it first", socket.display());
    }
    if let Some(parent) = socket.parent() {
        std::fs::create_dir_all(parent).with_context(|| format!("making {}", parent.display()))?;
    }
    let unready = socket.with_extension("sock.new");
    if let Err(error) = std::fs::remove_file(&unready)
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).with_context(|| format!("removing {}", unready.display()));
    }
    let listener = UnixListener::bind(&unready).with_context(|| format!("binding {}", unready.display()))?;
    // The platform's group may connect. bind() alone would leave the mode to the umask.
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(0o660))?;
    let made = std::fs::metadata(&unready)?;
    std::fs::rename(&unready, socket).with_context(|| format!("making {}", socket.display()))?;
    Ok((listener, SocketOwner { uid: made.uid(), gid: made.gid() }))
}

/// The state that all connections share.
struct SocketServer {
    host: Arc<dyn ContainerHost>,
    config: ContainerConfig,
    owner: SocketOwner,
    permits: Arc<Semaphore>,
}

impl SocketServer {
    async fn serve_connection(self: Arc<Self>, stream: UnixStream) {
        // SO_PEERCRED: the kernel reports the peer's user, which no client can forge.
        let peer = stream.peer_cred().ok();
        let mut connection = Framed::new(stream, LinesCodec::new_with_max_length(REQUEST_BYTES));
        // Load shedding: refused instead of queued. The platform retries, and idle clients could fill a queue.
        let Ok(_permit) = self.permits.try_acquire() else {
            return send(&mut connection, &Err(HostError::Failed("the provisioner has too many connections".into())))
                .await;
        };
        if !peer.is_some_and(|peer| rules::may_connect(peer.uid(), peer.gid(), self.owner.uid, self.owner.gid)) {
            tracing::warn!(?peer, "refused a connection from another user");
            return refuse(&mut connection, "this socket is for the platform's own user".into()).await;
        }
        self.answer_requests(connection).await;
    }

    /// Answers requests until the peer disconnects, is idle for too long, or sends an invalid request.
    async fn answer_requests(&self, mut connection: Connection) {
        while let Ok(Some(line)) = timeout(READ_TIMEOUT, connection.next()).await {
            let call = match line {
                Ok(line) => read_request(&line).and_then(|call| rules::check(&call, &self.config).map(|()| call)),
                Err(LinesCodecError::MaxLineLengthExceeded) => {
                    Err(format!("a request has at most {REQUEST_BYTES} bytes"))
                }
                Err(LinesCodecError::Io(error)) if error.kind() == ErrorKind::InvalidData => {
                    Err("a request is text in UTF-8".into())
                }
                Err(LinesCodecError::Io(_)) => return,
            };
            match call {
                Ok(ProvisionerCall::Events {}) => return self.send_events(connection).await,
                Ok(call) => send(&mut connection, &self.perform(call).await).await,
                Err(sentence) => {
                    tracing::warn!("refused a request: {sentence}");
                    return refuse(&mut connection, sentence).await;
                }
            }
        }
    }

    async fn perform(&self, call: ProvisionerCall) -> ProvisionerAnswer {
        let done = |result: Result<(), HostError>| result.map(|()| ProvisionerReply::Done);
        match call {
            ProvisionerCall::EnsureNetworks {} => self.host.ensure_networks().await.map(ProvisionerReply::Gateways),
            ProvisionerCall::EnsureVolume { instance, size } => done(self.host.ensure_volume(instance, &size).await),
            ProvisionerCall::Create { spec } => done(self.host.create(&spec).await),
            ProvisionerCall::Start { instance } => done(self.host.start(instance).await),
            ProvisionerCall::Freeze { instance } => done(self.host.freeze(instance).await),
            ProvisionerCall::Thaw { instance } => done(self.host.thaw(instance).await),
            ProvisionerCall::Stop { instance } => done(self.host.stop(instance).await),
            ProvisionerCall::RemoveContainer { instance } => done(self.host.remove_container(instance).await),
            ProvisionerCall::BuryVolume { instance } => done(self.host.bury_volume(instance).await),
            ProvisionerCall::UnburyVolume { instance } => done(self.host.unbury_volume(instance).await),
            ProvisionerCall::DestroyVolume { instance } => done(self.host.destroy_volume(instance).await),
            ProvisionerCall::Inspect { instance } => self.host.inspect(instance).await.map(ProvisionerReply::Seen),
            ProvisionerCall::List {} => self.host.list().await.map(ProvisionerReply::List),
            ProvisionerCall::Load {} => self.host.load().await.map(ProvisionerReply::Load),
            ProvisionerCall::HostReport {} => self.host.host_report().await.map(ProvisionerReply::Report),
            ProvisionerCall::Events {} => Ok(ProvisionerReply::Watching),
        }
    }

    /// Sends events until the Engine stops or the peer disconnects.
    async fn send_events(&self, mut connection: Connection) {
        let mut events = match self.host.events().await {
            Ok(events) => events,
            Err(error) => return send(&mut connection, &Err(error)).await,
        };
        send(&mut connection, &Ok(ProvisionerReply::Watching)).await;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(instance) => send(&mut connection, &Ok(ProvisionerReply::Happened(instance))).await,
                    None => return,
                },
                // The peer sends nothing after this verb, so any read, including its disconnect, ends the stream.
                _ = connection.next() => return,
            }
        }
    }
}

/// Sends a refusal with its reason. The caller then closes the connection.
async fn refuse(connection: &mut Connection, sentence: String) {
    send(connection, &Err(HostError::Refused(sentence))).await;
}

/// Sends an answer. A failure is ignored: the peer has disconnected, and inspects the state when it returns.
async fn send(connection: &mut Connection, answer: &ProvisionerAnswer) {
    let sent = match serde_json::to_string(answer) {
        Ok(line) => timeout(WRITE_TIMEOUT, connection.send(line)).await,
        Err(error) => return tracing::error!("could not serialize an answer: {error}"),
    };
    if !matches!(sent, Ok(Ok(()))) {
        tracing::debug!("an answer could not be sent");
    }
}
