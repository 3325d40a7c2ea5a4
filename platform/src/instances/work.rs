//! The kinds of work that keep an instance awake.

use serde::{Deserialize, Serialize};

use crate::clock::Timestamp;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// A request, from its last byte to the first of its answer.
    Request,
    /// A request while its body is being received.
    Upload,
    /// A response while its body is being sent.
    Stream,
    /// A WebSocket, or another connection that was upgraded.
    Socket,
    /// A call to a model, until it is settled.
    AiCall,
    /// What the program inside said that it is at.
    Job,
    /// Processor time above what an idle program uses.
    Processor,
    /// What browsers and monitors fetch by themselves: it is let end, and leaves no trace.
    Probe,
    /// The delivery of a webhook: the instance does not freeze during it, and it does not count as use.
    Webhook,
}

pub(super) const KINDS: usize = 9;
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
    /// The one word for it, in database, JSON and logs.
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

    /// Whether it keeps an instance awake while it lasts, whatever moves.
    pub(super) fn holds(self) -> bool {
        matches!(self, Self::Request | Self::AiCall | Self::Probe | Self::Webhook)
    }

    /// Whether an external client waits for it. Internal work keeps a running instance awake, but does not start a
    /// stopped one.
    pub(super) fn is_from_outside(self) -> bool {
        matches!(self, Self::Request | Self::Probe)
    }
}

/// The last work that was seen, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastWork {
    pub work: Work,
    #[serde(rename = "at_ms")]
    pub at: Timestamp,
}

/// What the program inside says that it is at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeclaredJob {
    pub name: String,
    #[serde(rename = "since_ms")]
    pub since: Timestamp,
    /// It keeps the instance awake until then at most.
    #[serde(rename = "until_ms")]
    pub until: Timestamp,
}
