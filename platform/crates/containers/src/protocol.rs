//! What the platform and the provisioner say to each other: one line of JSON a request, one an answer, on a unix socket.
//!
//! A connection carries any number of requests, one after the other. After [`Call::Events`] it carries nothing but
//! [`Reply::Happened`] until either side hangs up.

use std::net::Ipv4Addr;

use berth_ground::ids::InstanceId;
use serde::{Deserialize, Serialize};

use super::{ContainerSpec, HostError, HostLoad, HostReport, Seen};

/// Raised when an older side could misunderstand a newer one; both refuse what is not their own.
pub const VERSION: u32 = 2;
/// The longest request, in bytes: a container's spec is under 1 KiB.
pub const REQUEST_BYTES: usize = 16 * 1024;
/// The longest answer, in bytes: a list of 32 000 instances (64 bridges) has about 12 MiB.
pub const ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// A request: `{"v":1,"call":{"thaw":{"instance":"…"}}}`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    pub v: u32,
    pub call: Call,
}

/// The verbs of [`super::ContainerHost`]; there are no others, and none takes anything that is not written here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
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
pub type Answer = Result<Reply, HostError>;

/// What a verb answers when it went well.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub enum Reply {
    Done,
    Gateways(Vec<Ipv4Addr>),
    Seen(Seen),
    List(Vec<Seen>),
    Load(HostLoad),
    Report(HostReport),
    /// The events follow.
    Watching,
    Happened(InstanceId),
}

/// Reads a request, or says in a sentence what is wrong with it.
///
/// # Errors
/// The sentence: not JSON, another version, an unknown verb, something missing or too much.
pub fn read_request(line: &str) -> Result<Call, String> {
    /// Read first and alone: of another version nothing more can be understood.
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
    let request: Request =
        serde_json::from_str(line).map_err(|error| format!("the request cannot be understood: {error}"))?;
    Ok(request.call)
}
