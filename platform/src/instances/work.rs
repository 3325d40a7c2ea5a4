//! The kinds of work that keep an instance awake.

use berth_ground::clock::Timestamp;
use serde::{Deserialize, Serialize};

/// A kind of work in flight. Some kinds keep an instance awake for as long as they exist, others only while bytes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A request that waits for its response: from the last byte of the request to the first byte of the response.
    Request,
    /// A request while its body is being received.
    Upload,
    /// A response while its body is being sent.
    Stream,
    /// A WebSocket or another upgraded connection.
    Socket,
    /// A call to a model provider, until it is settled.
    AiCall,
    /// A job that the program inside declared.
    Job,
    /// Processor time above the configured floor.
    Processor,
    /// A passive request of a browser or monitor (favicon, health check): the instance does not freeze during it, and
    /// it does not count as activity.
    Probe,
    /// The delivery of a webhook: the instance does not freeze during it, and it does not count as activity.
    Webhook,
}

pub(super) const KINDS: usize = 9;
// In the order of the enum: the work tally indexes its counters with `work as usize`.
pub(super) const ALL: [Work; KINDS] = [
    Work::Request,
    Work::Upload,
    Work::Stream,
    Work::Socket,
    Work::AiCall,
    Work::Job,
    Work::Processor,
    Work::Probe,
    Work::Webhook,
];

impl Work {
    /// The kind's identifier in database, JSON and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Upload => "upload",
            Self::Stream => "stream",
            Self::Socket => "socket",
            Self::AiCall => "ai_call",
            Self::Job => "job",
            Self::Processor => "processor",
            Self::Probe => "probe",
            Self::Webhook => "webhook",
        }
    }

    /// Whether work of this kind keeps an instance awake for as long as it is in flight, with or without traffic.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Request | Self::AiCall | Self::Probe | Self::Webhook)
    }

    /// Whether an external client waits for it. Internal work keeps a running instance awake, but does not start a
    /// stopped one.
    pub(super) fn is_from_outside(self) -> bool {
        matches!(self, Self::Request | Self::Probe)
    }
}

/// The last work that counted as activity, and its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWork {
    pub work: Work,
    #[serde(rename = "at_ms")]
    pub at: Timestamp,
}

/// A job that the program inside declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredJob {
    pub name: String,
    #[serde(rename = "since_ms")]
    pub since: Timestamp,
    /// When the job expires: it keeps the instance awake until then at most.
    #[serde(rename = "until_ms")]
    pub until: Timestamp,
}
