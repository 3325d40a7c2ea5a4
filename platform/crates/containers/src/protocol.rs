//! The wire protocol between platform and provisioner: JSON lines on a Unix socket, one line per request and one per
//! answer.
//!
//! A connection carries any number of requests in sequence, without pipelining. After [`ProvisionerCall::Events`] it
//! carries only [`ProvisionerReply::Happened`], until either side closes it.

use std::net::Ipv4Addr;

use berth_ground::ids::InstanceId;
use serde::{Deserialize, Serialize};

use super::{ContainerSpec, HostError, HostLoad, HostReport, ObservedInstance};

/// The protocol version, raised when an older side could misunderstand a newer one. Either side refuses another
/// version.
pub const VERSION: u32 = 2;
/// The maximum length of a request in bytes; a container's spec takes less than 1 KiB.
pub const REQUEST_BYTES: usize = 16 * 1024;
/// The maximum length of an answer in bytes; a list of 32 000 instances (64 bridges) takes about 12 MiB.
pub const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A request: `{"v":1,"call":{"thaw":{"instance":"…"}}}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvisionerRequest {
    pub v: u32,
    pub call: ProvisionerCall,
}

/// The verbs of [`super::ContainerHost`] with their arguments. There are no other verbs, and unknown arguments are
/// refused.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProvisionerCall {
    EnsureNetworks {},
    EnsureVolume { instance: InstanceId, size: String },
    Create { spec: ContainerSpec },
    Start { instance: InstanceId },
    Freeze { instance: InstanceId },
    Thaw { instance: InstanceId },
    Stop { instance: InstanceId },
    RemoveContainer { instance: InstanceId },
    BuryVolume { instance: InstanceId },
    UnburyVolume { instance: InstanceId },
    DestroyVolume { instance: InstanceId },
    Inspect { instance: InstanceId },
    List {},
    Events {},
    Load {},
    HostReport {},
}

/// The answer to a request: `{"Ok":…}` or `{"Err":…}`.
pub type ProvisionerAnswer = Result<ProvisionerReply, HostError>;

/// The result of a verb that succeeded.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum ProvisionerReply {
    Done,
    Gateways(Vec<Ipv4Addr>),
    Seen(ObservedInstance),
    List(Vec<ObservedInstance>),
    Load(HostLoad),
    Report(HostReport),
    /// Events follow on this connection.
    Watching,
    /// An event: the container of this instance changed.
    Happened(InstanceId),
}

/// Parses a request.
///
/// # Errors
/// A sentence for the sender: not JSON, another version, an unknown verb, a missing or an unknown argument.
pub fn read_request(line: &str) -> Result<ProvisionerCall, String> {
    /// Parsed first and alone: the rest of another version's request may have any shape.
    #[derive(Deserialize)]
    struct Versioned {
        v: u32,
    }
    let Versioned { v } = serde_json::from_str(line)
        .map_err(|error| format!("a request is a JSON object with a version v and a call ({error})"))?;
    if v != VERSION {
        return Err(format!(
            "the platform speaks version {v} of the protocol and the provisioner version {VERSION}; update both together"
        ));
    }
    // Unknown fields are errors: an argument that this side does not know might be a restriction.
    let request: ProvisionerRequest =
        serde_json::from_str(line).map_err(|error| format!("the request cannot be understood: {error}"))?;
    Ok(request.call)
}
