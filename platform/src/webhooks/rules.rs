//! Which paths may be opened, when a letter is tried again, and when it is given up. Pure.

use std::time::Duration;

use crate::clock::Timestamp;

/// Paths that one instance may have open.
pub const MOST_PATHS: usize = 8;
/// Longest path, in bytes, with its unguessable end.
pub const LONGEST_PATH: usize = 200;
/// Largest body of a letter.
pub const LARGEST_BODY: usize = 1024 * 1024;
/// Largest path, query and headers of a letter, together.
pub const LARGEST_HEAD: usize = 16 * 1024;
/// Letters that are kept for one instance: those that wait, and those that failed until their owner throws them away.
pub const MOST_LETTERS: u64 = 1000;
/// Bytes of those letters.
pub const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// Bytes of everybody's letters: they stand in the database, and its disk is the platform's own.
pub const MOST_BYTES_OF_ALL: u64 = 1024 * 1024 * 1024;
/// How long after its arrival a letter is still tried.
pub const TRIED_FOR: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// Delivered letters are listed this long, without their bodies, and so many of them.
pub const LISTED_FOR: Duration = Duration::from_secs(7 * 24 * 60 * 60);
pub const MOST_LISTED: u64 = 50;

const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(4 * 60 * 60);

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The program said 2xx.
    Taken { answer: String },
    /// It said something else, or nothing.
    Refused { answer: String },
    /// It said 410: it will never take this letter.
    Never { answer: String },
}

/// What becomes of the letter after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Delivered,
    TryAt(Timestamp),
    Failed,
}

/// Decides after the `attempts`th attempt, which ended `now`. There is always one, however late.
#[must_use]
pub fn fate(outcome: &Outcome, attempts: i64, now: Timestamp, give_up_at: Timestamp) -> Fate {
    match outcome {
        Outcome::Taken { .. } => Fate::Delivered,
        Outcome::Never { .. } => Fate::Failed,
        Outcome::Refused { .. } if now >= give_up_at => Fate::Failed,
        // The last try comes when its time is up, not after.
        Outcome::Refused { .. } => Fate::TryAt(now.plus(pause_after(attempts)).min(give_up_at)),
    }
}

/// How long to wait after the `attempts`th attempt: 10 s, doubling, at most four hours.
#[must_use]
pub fn pause_after(attempts: i64) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(0).min(20);
    (FIRST_PAUSE * 2u32.pow(doublings)).min(LONGEST_PAUSE)
}

/// Why a path cannot be opened or rung at, in a sentence for whoever asked.
///
/// # Errors
/// That sentence.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    if !path.starts_with('/') || path == "/" {
        return Err("A path begins with a slash and goes on, such as /hooks/github.");
    }
    if path.len() > LONGEST_PATH {
        return Err("A path has at most 200 characters.");
    }
    if !path.bytes().all(plain) {
        return Err("A path is made of letters, digits, and the signs / - . _ and ~.");
    }
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
        assert!(check_path(&format!("/{}", "x".repeat(LONGEST_PATH))).is_err());
    }

    #[test]
    fn pauses_grow_from_seconds_to_hours() {
        let seconds: Vec<u64> = (1..=13).map(|attempt| pause_after(attempt).as_secs()).collect();
        assert_eq!(seconds, [10, 20, 40, 80, 160, 320, 640, 1280, 2560, 5120, 10_240, 14_400, 14_400]);
    }

    fn outcomes() -> impl Strategy<Value = Outcome> {
        let answer = String::from("500");
        prop_oneof![
            Just(Outcome::Taken { answer: answer.clone() }),
            Just(Outcome::Refused { answer: answer.clone() }),
            Just(Outcome::Never { answer })
        ]
    }

    proptest! {
        #[test]
        fn a_letter_that_is_always_refused_is_given_up_at_its_time_and_not_before(late in 0u64..10_000_000) {
            let refused = Outcome::Refused { answer: "500".into() };
            let arrived = Timestamp(0);
            let give_up_at = arrived.plus(TRIED_FOR);
            let mut now = arrived.plus(Duration::from_secs(late));
            for attempt in 1..100 {
                match fate(&refused, attempt, now, give_up_at) {
                    Fate::TryAt(at) => {
                        prop_assert!(at > now && at <= give_up_at);
                        now = at;
                    }
                    Fate::Failed => {
                        prop_assert!(now >= give_up_at);
                        return Ok(());
                    }
                    Fate::Delivered => prop_assert!(false, "refused is not delivered"),
                }
            }
            prop_assert!(false, "tried for ever");
        }

        #[test]
        fn only_what_was_taken_counts_as_delivered(outcome in outcomes(), attempts in 1i64..1000, now in 0i64..1_000_000_000) {
            let fate = fate(&outcome, attempts, Timestamp(now), Timestamp(500_000_000));
            prop_assert_eq!(fate == Fate::Delivered, matches!(outcome, Outcome::Taken { .. }));
        }
    }
}
