//! What is done on a schedule, and when.

/// Each kind of work with its times: second, minute, hour, day, month, weekday (UTC).
pub(super) const SCHEDULE: [(Kind, &str); 6] = [
    (Kind::PurgeExpired, "0 * * * * *"),
    (Kind::PurgeJobs, "30 7 3 * * *"),
    (Kind::AdvanceDeletions, "45 * * * * *"),
    (Kind::LookAtDomains, "20 25 * * * *"),
    (Kind::TellAlerts, "15 * * * * *"),
    (Kind::ForgetReceipts, "40 37 3 * * *"),
];

/// How often it is looked whether somebody's alarm is due.
pub(super) const EVERY_SECOND: &str = "* * * * * *";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Challenges, sign-ups, sessions and set-up links that expired.
    PurgeExpired,
    /// Jobs that were done long ago.
    PurgeJobs,
    /// Accounts that leave: their files are marked, and destroyed when it is time.
    AdvanceDeletions,
    /// Proven domains whose proof was not looked up for a day.
    LookAtDomains,
    /// Allowances that are nearly or wholly spent: the instances whose owners want it are told.
    TellAlerts,
    /// Receipts that are older than they have to be kept.
    ForgetReceipts,
}

impl Kind {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::PurgeExpired => "purge_expired",
            Self::PurgeJobs => "purge_jobs",
            Self::AdvanceDeletions => "advance_deletions",
            Self::LookAtDomains => "look_at_domains",
            Self::TellAlerts => "tell_alerts",
            Self::ForgetReceipts => "forget_receipts",
        }
    }

    /// The kind that a row names; `None` for one of another version of Berth.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        SCHEDULE.iter().map(|(kind, _)| *kind).find(|kind| kind.word() == word)
    }
}
