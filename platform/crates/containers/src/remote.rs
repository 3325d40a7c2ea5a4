//! The client of the provisioner's socket, with a connection pool: the platform's [`ContainerHost`], since the platform
//! has no Docker socket.

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

use super::protocol::{
    ANSWER_BYTES, ProvisionerAnswer, ProvisionerCall, ProvisionerReply, ProvisionerRequest, VERSION,
};
use super::{ContainerHost, ContainerSpec, HostError, HostLoad, HostReport, ObservedInstance};

/// Longer than the provisioner's own timeout for any verb (30 s), so that its answer arrives before our timeout.
const DEADLINE: Duration = Duration::from_secs(35);
/// Most concurrent calls; fewer than the provisioner's connections, so that an operator's command still gets one.
const AT_ONCE: usize = 32;
/// Most idle connections in the pool.
const IDLE: usize = 8;

type Connection = Framed<UnixStream, LinesCodec>;

/// A client of the provisioner on a Unix socket.
pub struct RemoteHost {
    socket: PathBuf,
    idle: Mutex<Vec<Connection>>,
    at_once: Semaphore,
}

impl RemoteHost {
    /// The client connects lazily: the provisioner may start later, and stop at any time.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into(), idle: Mutex::default(), at_once: Semaphore::new(AT_ONCE) }
    }

    async fn call(&self, call: ProvisionerCall) -> ProvisionerAnswer {
        let exchanged = async {
            let _turn = self.at_once.acquire().await.map_err(|_| HostError::Unreachable)?;
            let (answer, connection) = self.exchange(call).await?;
            // Pooled only after a complete exchange: a timeout drops the connection with its pending answer.
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            // The provisioner closes the connection after a refused request, so such a connection must not be pooled.
            if idle.len() < IDLE && !matches!(answer, Err(HostError::Refused(_))) {
                idle.push(connection);
            }
            answer
        };
        timeout(DEADLINE, exchanged).await.unwrap_or(Err(HostError::Timeout))
    }

    /// Sends the call on a pooled connection, and retries once on a new one if the pooled one was closed (the
    /// keep-alive race). The retry is safe because every verb is idempotent.
    async fn exchange(&self, call: ProvisionerCall) -> Result<(ProvisionerAnswer, Connection), HostError> {
        let line = request(call)?;
        if let Some(mut connection) = self.pooled() {
            match converse(&mut connection, &line).await {
                Err(HostError::Unreachable) => {}
                answer => return Ok((answer, connection)),
            }
        }
        let mut connection = self.connect().await?;
        Ok((converse(&mut connection, &line).await, connection))
    }

    /// A pooled connection without unread bytes. Such bytes would be taken for the answer to the next request, and
    /// shift every later answer by one (response desynchronization).
    fn pooled(&self) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            let mut connection = idle.pop()?;
            // Ready means bytes or the end of the stream: in neither case may it be reused.
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

    async fn done(&self, call: ProvisionerCall) -> Result<(), HostError> {
        match self.call(call).await? {
            ProvisionerReply::Done => Ok(()),
            other => Err(unexpected(&other)),
        }
    }
}

fn request(call: ProvisionerCall) -> Result<String, HostError> {
    serde_json::to_string(&ProvisionerRequest { v: VERSION, call })
        .map_err(|error| HostError::Failed(error.to_string()))
}

async fn converse(connection: &mut Connection, line: &str) -> ProvisionerAnswer {
    let sent = connection.send(line).await;
    // A refused peer gets its answer and is disconnected, possibly before our request was written. So the answer is
    // read even after a failed write.
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

fn unexpected(reply: &ProvisionerReply) -> HostError {
    HostError::Failed(format!("the provisioner answered another question: {reply:?}"))
}

#[async_trait]
impl ContainerHost for RemoteHost {
    async fn ensure_networks(&self) -> Result<Vec<Ipv4Addr>, HostError> {
        match self.call(ProvisionerCall::EnsureNetworks {}).await? {
            ProvisionerReply::Gateways(gateways) => Ok(gateways),
            other => Err(unexpected(&other)),
        }
    }

    async fn ensure_volume(&self, instance: InstanceId, size: &str) -> Result<(), HostError> {
        self.done(ProvisionerCall::EnsureVolume { instance, size: size.to_owned() }).await
    }

    async fn create(&self, spec: &ContainerSpec) -> Result<(), HostError> {
        self.done(ProvisionerCall::Create { spec: spec.clone() }).await
    }

    async fn start(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(ProvisionerCall::Start { instance }).await
    }

    async fn freeze(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(ProvisionerCall::Freeze { instance }).await
    }

    async fn thaw(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(ProvisionerCall::Thaw { instance }).await
    }

    async fn stop(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(ProvisionerCall::Stop { instance }).await
    }

    async fn remove_container(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(ProvisionerCall::RemoveContainer { instance }).await
    }

    async fn bury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(ProvisionerCall::BuryVolume { instance }).await
    }

    async fn unbury_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(ProvisionerCall::UnburyVolume { instance }).await
    }

    async fn destroy_volume(&self, instance: InstanceId) -> Result<(), HostError> {
        self.done(ProvisionerCall::DestroyVolume { instance }).await
    }

    async fn inspect(&self, instance: InstanceId) -> Result<ObservedInstance, HostError> {
        match self.call(ProvisionerCall::Inspect { instance }).await? {
            // The comparison detects an answer that belongs to another request.
            ProvisionerReply::Seen(seen) if seen.instance == instance => Ok(seen),
            other => Err(unexpected(&other)),
        }
    }

    async fn list(&self) -> Result<Vec<ObservedInstance>, HostError> {
        match self.call(ProvisionerCall::List {}).await? {
            ProvisionerReply::List(list) => Ok(list),
            other => Err(unexpected(&other)),
        }
    }

    async fn events(&self) -> Result<BoxStream<'static, InstanceId>, HostError> {
        // A connection of its own, because it carries only events from then on. It takes no permit, since it may last
        // for days.
        let opened = async {
            let mut connection = self.connect().await?;
            match converse(&mut connection, &request(ProvisionerCall::Events {})?).await? {
                ProvisionerReply::Watching => Ok(connection),
                other => Err(unexpected(&other)),
            }
        };
        let connection = timeout(DEADLINE, opened).await.unwrap_or(Err(HostError::Timeout))?;
        let events = futures_util::stream::unfold(connection, |mut connection| async move {
            match serde_json::from_str(&connection.next().await?.ok()?) {
                Ok(ProvisionerAnswer::Ok(ProvisionerReply::Happened(instance))) => Some((instance, connection)),
                // Anything else ends the stream, and the caller opens another.
                _ => None,
            }
        });
        Ok(events.boxed())
    }

    async fn load(&self) -> Result<HostLoad, HostError> {
        match self.call(ProvisionerCall::Load {}).await? {
            ProvisionerReply::Load(load) => Ok(load),
            other => Err(unexpected(&other)),
        }
    }

    async fn host_report(&self) -> Result<HostReport, HostError> {
        match self.call(ProvisionerCall::HostReport {}).await? {
            ProvisionerReply::Report(report) => Ok(report),
            other => Err(unexpected(&other)),
        }
    }
}
