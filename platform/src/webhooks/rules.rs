//! Pure rules of webhooks: which paths may be opened, the exponential backoff, and when a delivery becomes a dead
//! letter.

use std::time::Duration;

use berth_ground::clock::Timestamp;

/// Most open paths of one instance.
pub const MAX_PATHS: usize = 8;
/// Longest path in bytes, including its unguessable suffix.
pub const MAX_PATH_BYTES: usize = 200;
/// Largest body of a request, in bytes.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;
/// Largest total of path, query and headers of a request, in bytes.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most deliveries in one inbox: waiting ones, and dead letters until their owner discards them.
pub const MAX_DELIVERIES: u64 = 1000;
/// Most bytes of those deliveries.
pub const MAX_INBOX_BYTES: u64 = 16 * 1024 * 1024;
/// Most bytes of all inboxes. They are in the database, which shares a disk with the platform.
pub const MAX_TOTAL_BYTES: u64 = 1024 * 1024 * 1024;
/// How long a delivery is attempted, from its arrival or its owner's retry.
pub const RETRY_WINDOW: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// How long delivered entries are listed, without their bodies, and the most per instance.
pub const DELIVERED_RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub const MAX_DELIVERED: u64 = 50;

const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const MAX_BACKOFF: Duration = Duration::from_secs(4 * 60 * 60);

/// The outcome of an attempt. `result` is shown to the owner: a status, or a few words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The program answered 2xx, or an alarm without a path woke the instance.
    Accepted { result: String },
    /// The program answered another status, or not at all: worth a retry.
    Refused { result: String },
    /// The program answered 410, or the stored request cannot be sent: no retry can succeed.
    Permanent { result: String },
}

impl AttemptOutcome {
    pub(super) fn result(&self) -> &str {
        let (Self::Accepted { result } | Self::Refused { result } | Self::Permanent { result }) = self;
        result
    }
}

/// The state of a delivery after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryDecision {
    Delivered,
    RetryAt(Timestamp),
    DeadLetter,
}

/// Decides on a retry after attempt number `attempt`, which ended at `now`.
#[must_use]
pub fn decide_retry(outcome: &AttemptOutcome, attempt: i64, now: Timestamp, give_up_at: Timestamp) -> RetryDecision {
    match outcome {
        AttemptOutcome::Accepted { .. } => RetryDecision::Delivered,
        AttemptOutcome::Permanent { .. } => RetryDecision::DeadLetter,
        // The window is checked after an attempt, never before one: a delivery that becomes due late, because its
        // instance was suspended or the platform was down, still gets an attempt.
        AttemptOutcome::Refused { .. } if now >= give_up_at => RetryDecision::DeadLetter,
        // Without the minimum, the last backoff could reach four hours past the end of the window.
        AttemptOutcome::Refused { .. } => RetryDecision::RetryAt(now.plus(backoff_after(attempt)).min(give_up_at)),
    }
}

/// Exponential backoff after attempt number `attempt`: 10 s, doubling, at most four hours.
#[must_use]
pub fn backoff_after(attempt: i64) -> Duration {
    // 10 s times 2^20 is far above the maximum and far below an overflow.
    let doublings = u32::try_from(attempt.saturating_sub(1)).unwrap_or(0).min(20);
    (FIRST_BACKOFF * 2u32.pow(doublings)).min(MAX_BACKOFF)
}

/// Checks that a path can be opened for webhooks, or that an alarm can be delivered to it.
///
/// # Errors
/// The reason, as a sentence for its author.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    // Only bytes that no proxy or framework rewrites. An open path is compared with the request's path byte by byte: a
    // path that two parsers normalize differently would be open in one and private in the other.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if !path.starts_with('/') || path == "/" {
        return Err("A path begins with a slash and goes on, such as /hooks/github.");
    }
    if path.len() > MAX_PATH_BYTES {
        return Err("A path has at most 200 characters.");
    }
    if !path.bytes().all(plain) {
        return Err("A path is made of letters, digits, and the signs / - . _ and ~.");
    }
    // Leading dots: some programs resolve `..`, `/.berth/` belongs to the edge, and certificate authorities verify the
    // ownership of a host below `/.well-known/`.
    if path.contains("//") || path.split('/').skip(1).any(|part| part.starts_with('.')) {
        return Err("No part of a path is empty or begins with a dot.");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_plain_paths_can_be_opened() {
        for (path, good) in [
            ("/hooks/github", true),
            ("/a", true),
            ("/hooks/stripe/", true),
            ("/v1.2/x_y~z-0", true),
            ("", false),
            ("/", false),
            ("hooks", false),
            ("/.berth/x", false),
            ("/.well-known/acme-challenge/x", false),
            ("/a/../b", false),
            ("/a//b", false),
            ("/a?b", false),
            ("/a%2fb", false),
            ("/hôtel", false),
            ("/a b", false),
        ] {
            assert_eq!(check_path(path).is_ok(), good, "{path}");
        }
        assert!(check_path(&format!("/{}", "x".repeat(MAX_PATH_BYTES))).is_err());
    }

    #[test]
    fn backoff_grows_from_seconds_to_hours() {
        let seconds: Vec<u64> = (1..=13).map(|attempt| backoff_after(attempt).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 14_400, 14_400]);
    }

    fn outcomes() -> impl Strategy<Value = AttemptOutcome> {
        let result = String::from("500");
        prop_oneof![
            Just(AttemptOutcome::Accepted { result: result.clone() }),
            Just(AttemptOutcome::Refused { result: result.clone() }),
            Just(AttemptOutcome::Permanent { result })
        ]
    }

    proptest! {
        #[test]
        fn a_delivery_that_is_always_refused_is_given_up_at_the_end_of_its_window_and_not_before(late in 0u64..10_000_000) {
            let refused = AttemptOutcome::Refused { result: "500".into() };
            let arrived = Timestamp(0);
            let give_up_at = arrived.plus(RETRY_WINDOW);
            let mut now = arrived.plus(Duration::from_secs(late));
            for attempt in 1..100 {
                match decide_retry(&refused, attempt, now, give_up_at) {
                    RetryDecision::RetryAt(at) => {
                        prop_assert!(at > now && at <= give_up_at);
                        now = at;
                    }
                    RetryDecision::DeadLetter => {
                        prop_assert!(now >= give_up_at);
                        return Ok(());
                    }
                    RetryDecision::Delivered => prop_assert!(false, "refused is not delivered"),
                }
            }
            prop_assert!(false, "tried for ever");
        }

        #[test]
        fn only_an_accepted_attempt_counts_as_delivered(outcome in outcomes(), attempts in 1i64..1000, now in 0i64..1_000_000_000) {
            let decision = decide_retry(&outcome, attempts, Timestamp(now), Timestamp(500_000_000));
            prop_assert_eq!(decision == RetryDecision::Delivered, matches!(outcome, AttemptOutcome::Accepted { .. }));
        }
    }
}
