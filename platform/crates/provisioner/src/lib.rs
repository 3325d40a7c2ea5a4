//! The privileged process: serves [`ContainerHost`] on a unix socket to the platform, which has no Docker socket.
//!
//! It trusts nobody who connects: a dozen verbs, every argument checked, and no way to say how a container is built.

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
use berth_containers::protocol::{Answer, Call, REQUEST_BYTES, Reply, read_request};
use berth_containers::{ContainerHost, HostError};
use berth_ground::clock::Clock;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

/// Connections at once: the platform uses at most 33.
const CONNECTIONS: usize = 64;
/// How long a connection may take to send a whole request, the waiting before it included.
const IDLE: Duration = Duration::from_secs(60);
/// How long the other side may take to read an answer.
const WRITE: Duration = Duration::from_secs(10);

/// How often the walls between instances are looked after.
const LOOK_AFTER_WALLS: Duration = Duration::from_secs(30);

type Connection = Framed<UnixStream, LinesCodec>;

/// Serves the Engine of this machine on `config.socket` until `shutdown` is ready.
///
/// # Errors
/// When the socket cannot be made, or another provisioner answers on it.
pub async fn serve(config: ContainerConfig, clock: Clock, shutdown: impl Future<Output = ()>) -> anyhow::Result<()> {
    let host = Arc::new(DockerHost::connect(config.clone(), clock));
    tokio::select! {
        served = serve_host(Arc::clone(&host) as _, config, shutdown) => served,
        never = keep_walls(&*host) => match never {},
    }
}

/// Makes the walls between instances at once, and mends them when something else on this host took them down, as a
/// reload of its own firewall does.
async fn keep_walls(host: &dyn ContainerHost) -> Infallible {
    let mut said = None;
    loop {
        let failed = host.ensure_networks().await.err();
        if failed != said {
            match &failed {
                // The rules stay without it, and it starts nothing either.
                Some(error @ (HostError::Unreachable | HostError::Timeout)) => {
                    tracing::warn!("cannot look after what keeps instances apart: {error}");
                }
                Some(error) => tracing::error!("instances are not kept apart, and none is started: {error}"),
                None => tracing::info!("instances are kept apart"),
            }
            said = failed;
        }
        tokio::time::sleep(LOOK_AFTER_WALLS).await;
    }
}

/// Serves `host` on `config.socket` until `shutdown` is ready. Calls under way are then dropped; nothing is lost by
/// that, since the platform looks again at what is really there.
///
/// # Errors
/// When the socket cannot be made, or another provisioner answers on it.
pub async fn serve_host(
    host: Arc<dyn ContainerHost>,
    config: ContainerConfig,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let (listener, owner) = listen(&config.socket).await?;
    tracing::info!("the provisioner listens on {}", config.socket.display());
    let door = Arc::new(Door { host, config, owner, places: Arc::new(Semaphore::new(CONNECTIONS)) });
    let mut conversations = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            Some(_) = conversations.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(conversations.spawn(Arc::clone(&door).receive(stream))),
                // Out of file descriptors, most likely: the connections there are will end and give some back.
                Err(error) => {
                    tracing::error!("cannot accept a connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
        }
    }
    conversations.shutdown().await;
    if let Err(error) = std::fs::remove_file(&door.config.socket) {
        tracing::warn!("{} stays behind: {error}", door.config.socket.display());
    }
    Ok(())
}

/// Asks the kernel to hand memory back by writing `bytes` to `file`: the whole work of the hidden verb
/// `reclaim --file FILE --bytes BYTES`. Blocks until the kernel has done what it could; our parent kills us when
/// that takes too long.
///
/// # Errors
/// When `file` is not one of the two that ask for this in the cgroup tree, or the kernel refuses.
pub fn reclaim(file: &Path, bytes: u64) -> std::io::Result<()> {
    if !rules::is_reclaim_file(file) {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "this is not a memory.reclaim or memory.force_empty"));
    }
    let written = std::fs::OpenOptions::new()
        .write(true)
        .open(file)
        .and_then(|mut file| std::io::Write::write_all(&mut file, bytes.to_string().as_bytes()));
    match written {
        // Less than asked for was handed back, which is no failure: some memory cannot be swapped.
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::ResourceBusy) => Ok(()),
        other => other,
    }
}

/// Whose socket it is.
#[derive(Clone, Copy)]
struct Owner {
    uid: u32,
    gid: u32,
}

/// Binds the socket under another name, closes it to others, and only then gives it its own: there is no moment in which
/// somebody else could connect, and one that a crashed provisioner left behind is replaced.
async fn listen(socket: &Path) -> anyhow::Result<(UnixListener, Owner)> {
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
    std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(0o660))?;
    let made = std::fs::metadata(&unready)?;
    std::fs::rename(&unready, socket).with_context(|| format!("making {}", socket.display()))?;
    Ok((listener, Owner { uid: made.uid(), gid: made.gid() }))
}

struct Door {
    host: Arc<dyn ContainerHost>,
    config: ContainerConfig,
    owner: Owner,
    places: Arc<Semaphore>,
}

impl Door {
    async fn receive(self: Arc<Self>, stream: UnixStream) {
        let peer = stream.peer_cred().ok();
        let mut connection = Framed::new(stream, LinesCodec::new_with_max_length(REQUEST_BYTES));
        let Ok(_place) = self.places.try_acquire() else {
            return say(&mut connection, &Err(HostError::Failed("the provisioner has too many connections".into())))
                .await;
        };
        if !peer.is_some_and(|peer| rules::may_enter(peer.uid(), peer.gid(), self.owner.uid, self.owner.gid)) {
            tracing::warn!(?peer, "refused a connection from another user");
            return refuse(&mut connection, "this socket is for the platform's own user".into()).await;
        }
        self.converse(connection).await;
    }

    /// Answers requests until the other side hangs up, falls silent, or sends one that is refused.
    async fn converse(&self, mut connection: Connection) {
        while let Ok(Some(line)) = timeout(IDLE, connection.next()).await {
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
                Ok(Call::Events {}) => return self.tell_events(connection).await,
                Ok(call) => say(&mut connection, &self.do_it(call).await).await,
                Err(sentence) => {
                    tracing::warn!("refused a request: {sentence}");
                    return refuse(&mut connection, sentence).await;
                }
            }
        }
    }

    async fn do_it(&self, call: Call) -> Answer {
        let done = |result: Result<(), HostError>| result.map(|()| Reply::Done);
        match call {
            Call::EnsureNetworks {} => self.host.ensure_networks().await.map(Reply::Gateways),
            Call::EnsureVolume { instance, size } => done(self.host.ensure_volume(instance, &size).await),
            Call::Create { spec } => done(self.host.create(&spec).await),
            Call::Start { instance } => done(self.host.start(instance).await),
            Call::Freeze { instance } => done(self.host.freeze(instance).await),
            Call::Thaw { instance } => done(self.host.thaw(instance).await),
            Call::Stop { instance } => done(self.host.stop(instance).await),
            Call::RemoveContainer { instance } => done(self.host.remove_container(instance).await),
            Call::BuryVolume { instance } => done(self.host.bury_volume(instance).await),
            Call::UnburyVolume { instance } => done(self.host.unbury_volume(instance).await),
            Call::DestroyVolume { instance } => done(self.host.destroy_volume(instance).await),
            Call::Inspect { instance } => self.host.inspect(instance).await.map(Reply::Seen),
            Call::List {} => self.host.list().await.map(Reply::List),
            Call::Load {} => self.host.load().await.map(Reply::Load),
            Call::HostReport {} => self.host.host_report().await.map(Reply::Report),
            Call::Events {} => Ok(Reply::Watching),
        }
    }

    /// Tells what happens until the Engine goes or the other side hangs up.
    async fn tell_events(&self, mut connection: Connection) {
        let mut events = match self.host.events().await {
            Ok(events) => events,
            Err(error) => return say(&mut connection, &Err(error)).await,
        };
        say(&mut connection, &Ok(Reply::Watching)).await;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(instance) => say(&mut connection, &Ok(Reply::Happened(instance))).await,
                    None => return,
                },
                // Nothing is said on this side any more; whatever comes, also the end, ends it.
                _ = connection.next() => return,
            }
        }
    }
}

/// Says no, and why. The connection ends after it.
async fn refuse(connection: &mut Connection, sentence: String) {
    say(connection, &Err(HostError::Refused(sentence))).await;
}

/// Sends an answer. One that cannot be sent is lost: whoever asked has gone, and will look again.
async fn say(connection: &mut Connection, answer: &Answer) {
    let sent = match serde_json::to_string(answer) {
        Ok(line) => timeout(WRITE, connection.send(line)).await,
        Err(error) => return tracing::error!("an answer cannot be written: {error}"),
    };
    if !matches!(sent, Ok(Ok(()))) {
        tracing::debug!("an answer could not be sent");
    }
}
