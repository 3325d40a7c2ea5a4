//! How long a provider is waited for in each phase of a call, and a client's stream after its client went.

use std::time::Duration;

/// Limits of time, and of how many streams are read on. Tests have less patience.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Until the provider's address takes a connection. Nothing was sent then.
    pub connect: Duration,
    /// Until a stream begins. Providers begin it at once, and think in it.
    pub first_byte: Duration,
    /// The longest silence within an answer, and before one in one piece. The SDKs' own timeout is ten minutes.
    pub between_bytes: Duration,
    /// For an answer in one piece.
    pub whole: Duration,
    /// For a count of a call's input, which takes some tenths of a second. Who would be refused otherwise waits no longer.
    pub count: Duration,
    /// How long a stream that its client left is read on for its figures.
    pub drain: Duration,
    /// How many such streams there may be. Each has a hold, so an account has no more of them than calls at once.
    pub most_drains: usize,
}

impl Default for Patience {
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
