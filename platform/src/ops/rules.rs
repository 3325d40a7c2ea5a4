//! What is done on a schedule, and when.

/// Each kind of work with its times: second, minute, hour, day, month, weekday (UTC).
pub(super) const SCHEDULE: [(Kind, &str); 2] = [(Kind::PurgeExpired, "0 * * * * *"), (Kind::PurgeJobs, "30 7 3 * * *")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Challenges, sign-ups, sessions and set-up links that expired.
    PurgeExpired,
    /// Jobs that were done long ago.
    PurgeJobs,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::PurgeExpired => "purge_expired",
            Self::PurgeJobs => "purge_jobs",
        }
    }

    /// The kind that a row names; `None` for one of another version of Berth.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        SCHEDULE.iter().map(|(kind, _)| *kind).find(|kind| kind.word() == word)
    }
}
