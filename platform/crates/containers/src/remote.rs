//! Containers through the provisioner's socket: what the platform uses in production, where it has no Docker socket.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use berth_ground::ids::InstanceId;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::net::UnixStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::codec::{Framed, LinesCodec, LinesCodecError};

use super::protocol::{ANSWER_BYTES, Answer, Call, Reply, Request, VERSION};
use super::{ContainerHost, ContainerSpec, HostError, HostLoad, HostReport, Seen};

/// Longer than any verb takes on the other side (30 s), so that its answer, not ours, says what happened.
const DEADLINE: Duration = Duration::from_secs(35);
/// Calls under way at once; fewer than the provisioner's connections, so that an operator's command still gets one.
const AT_ONCE: usize = 32;
/// Connections kept for the next call.
const IDLE: usize = 8;

type Connection = Framed<UnixStream, LinesCodec>;

/// The provisioner on the other end of a unix socket.
pub struct RemoteHost {
    socket: PathBuf,
    idle: Mutex<Vec<Connection>>,
    at_once: Semaphore,
}

impl RemoteHost {
    /// Nothing is connected yet: the provisioner may come later and go at any time.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), idle: Mutex::default(), at_once: Semaphore::new(AT_ONCE) }
    }

    async fn ask(&self, call: Call) -> Answer {
        let asked = async {
            let _turn = self.at_once.acquire().await.map_err(|_| HostError::Unreachable)?;
            let (answer, connection) = self.ask_somewhere(call).await?;
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // After a refusal of the request itself the other side hangs up.
            if idle.len() < IDLE && !matches!(answer, Err(HostError::Refused(_))) {
                idle.push(connection);
            }
            answer
        };
        timeout(DEADLINE, asked).await.unwrap_or(Err(HostError::Timeout))
    }

    /// Asks on a kept connection, and once more on a new one when that had ended: every verb may be asked twice.
    async fn ask_somewhere(&self, call: Call) -> Result<(Answer, Connection), HostError> {
        let line = request(call)?;
        if let Some(mut connection) = self.kept() {
            match converse(&mut connection, &line).await {
                Err(HostError::Unreachable) => {}
                answer => return Ok((answer, connection)),
            }
        }
        let mut connection = self.connect().await?;
        Ok((converse(&mut connection, &line).await, connection))
    }

    /// A kept connection on which nothing has been said since its last answer: on any other, the next answer would not be
    /// the answer to what is asked next.
    fn kept(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut connection = idle.pop()?;
            if connection.next().now_or_never().is_none() {
                return Some(connection);
            }
        }
    }

    async fn connect(&self) -> Result<Connection, HostError> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| {
            tracing::debug!("the provisioner's socket {}: {error}", self.socket.display());
            HostError::Unreachable
        })?;
        Ok(Framed::new(stream, LinesCodec::new_with_max_length(ANSWER_BYTES)))
    }

    async fn done(&self, call: Call) -> Result<(), HostError> {
        match self.ask(call).await? {
            Reply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn request(call: Call) -> Result<String, HostError> {
    serde_json::to_string(&Request { v: VERSION, call }).map_err(|error| HostError::Failed(error.to_string()))
}

async fn converse(connection: &mut Connection, line: &str) -> Answer {
    let sent = connection.send(line).await;
    // Who is not let in is told so and hung up on, perhaps before the request was sent.
    match connection.next().await {
        Some(Ok(line)) => serde_json::from_str(&line)
            .map_err(|error| HostError::Failed(format!("the provisioner's answer cannot be understood: {error}")))?,
        Some(Err(LinesCodecError::MaxLineLengthExceeded)) => {
            Err(HostError::Failed("the provisioner's answer is too long".into()))
        }
        Some(Err(LinesCodecError::Io(_))) | None => {
            if let Err(error) = sent {
                tracing::debug!("a request could not be sent to the provisioner: {error}");
            }
            Err(HostError::Unreachable)
        }
    }
}

fn unexpected(reply: &Reply) -> HostError {
    HostError::Failed(format!("the provisioner answered something else than was asked: {reply:?}"))
}

#[async_trait]
impl ContainerHost for RemoteHost {
    async fn ensure_networks(&self) -> Result<Vec<Ipv4Addr>, HostError> {
        match self.ask(Call::EnsureNetworks {}).await? {
            Reply::Gateways(gateways) => Ok(gateways),
            other => Err(unexpected(&other)),
        }
    }

    async fn ensure_volume(&self, instance: InstanceId, size: &str) -> Result<(), HostError> {
        self.done(Call::EnsureVolume { instance, size: size.to_owned() }).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError> {
        self.done(Call::Create { spec: spec.clone() }).await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(Call::Start { instance }).await
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(Call::Freeze { instance }).await
    }

    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(Call::Thaw { instance }).await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(Call::Stop { instance }).await
    }

    async fn remove_container(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(Call::RemoveContainer { instance }).await
    }

    async fn bury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(Call::BuryVolume { instance }).await
    }

    async fn unbury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(Call::UnburyVolume { instance }).await
    }

    async fn destroy_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(Call::DestroyVolume { instance }).await
    }

    async fn inspect(&self, instance: InstanceId) -> Result<Seen, HostError> {
        match self.ask(Call::Inspect { instance }).await? {
            Reply::Seen(seen) if seen.instance == instance => Ok(seen),
            other => Err(unexpected(&other)),
        }
    }

    async fn list(&self) -> Result<Vec<Seen>, HostError> {
        match self.ask(Call::List {}).await? {
            Reply::List(list) => Ok(list),
            other => Err(unexpected(&other)),
        }
    }

    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError> {
        let opened = async {
            let mut connection = self.connect().await?;
            match converse(&mut connection, &request(Call::Events {})?).await? {
                Reply::Watching => Ok(connection),
                other => Err(unexpected(&other)),
            }
        };
        let connection = timeout(DEADLINE, opened).await.unwrap_or(Err(HostError::Timeout))?;
        let events = futures_util::stream::unfold(connection, |mut connection| async move {
            match serde_json::from_str(&connection.next().await?.ok()?) {
                Ok(Answer::Ok(Reply::Happened(instance))) => Some((instance, connection)),
                _ => None,
            }
        });
        Ok(events.boxed())
    }

    async fn load(&self) -> Result<HostLoad, HostError> {
        match self.ask(Call::Load {}).await? {
            Reply::Load(load) => Ok(load),
            other => Err(unexpected(&other)),
        }
    }

    async fn host_report(&self) -> Result<HostReport, HostError> {
        match self.ask(Call::HostReport {}).await? {
            Reply::Report(report) => Ok(report),
            other => Err(unexpected(&other)),
        }
    }
}
