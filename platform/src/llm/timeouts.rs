//! The quota proxy's timeouts: one for each phase of a provider call, and for draining a stream after a client
//! disconnect.

use std::time::Duration;

/// The timeouts, and the limit of concurrent drains. Tests use shorter ones.
#[derive(Clone, Copy, Debug)]
pub struct ProxyTimeouts {
    /// For the connection to the provider. When it passes, nothing was sent.
    pub connect: Duration,
    /// From the request to the head of a streamed response. Providers begin a stream at once and reason within it.
    pub first_byte: Duration,
    /// For the longest silence within a response, and before one that is not streamed. The SDKs' own timeout is ten
    /// minutes.
    pub between_bytes: Duration,
    /// For a whole response that is not streamed.
    pub whole: Duration,
    /// For a token count of a call's input, which takes some tenths of a second. A call that would be refused without
    /// the count waits no longer than this.
    pub count: Duration,
    /// For draining a stream to its usage figures after the client disconnected.
    pub drain: Duration,
    /// The most concurrent drains. Each has a hold, so an account has no more drains than concurrent calls.
    pub most_drains: usize,
}

impl Default for ProxyTimeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(240),
            between_bytes: Duration::from_secs(600),
            whole: Duration::from_secs(3600),
            count: Duration::from_secs(3),
            drain: Duration::from_secs(30),
            most_drains: 256,
        }
    }
}
