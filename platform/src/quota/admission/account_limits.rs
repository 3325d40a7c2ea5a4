//! The limits of single accounts, and grants of credit.

use berth_ground::handle::Handle;
use berth_ground::money::Nanodollars;
use serde::Serialize;

use crate::config::CallLimits;
use crate::db::AccountId;

/// The limits of one account. `None`: the installation's limit applies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AccountLimits {
    #[serde(skip)]
    pub account_id: AccountId,
    pub month_nanodollars: Option<Nanodollars>,
    pub day_nanodollars: Option<Nanodollars>,
    pub requests_a_minute: Option<i64>,
    pub tokens_a_minute: Option<i64>,
    pub calls_at_once: Option<i64>,
}

impl AccountLimits {
    pub(super) fn none(account_id: AccountId) -> Self {
        Self {
            account_id,
            month_nanodollars: None,
            day_nanodollars: None,
            requests_a_minute: None,
            tokens_a_minute: None,
            calls_at_once: None,
        }
    }

    /// These limits, and those of `usual` where there is `None`.
    #[must_use]
    pub fn over(&self, usual: CallLimits) -> CallLimits {
        let small = |own: Option<i64>, usual| own.map_or(usual, |own| Some(u32::try_from(own).unwrap_or(u32::MAX)));
        CallLimits {
            month_nanodollars: self.month_nanodollars.unwrap_or(usual.month_nanodollars),
            day_nanodollars: self.day_nanodollars.or(usual.day_nanodollars),
            requests_a_minute: small(self.requests_a_minute, usual.requests_a_minute),
            tokens_a_minute: small(self.tokens_a_minute, usual.tokens_a_minute),
            calls_at_once: small(self.calls_at_once, Some(usual.calls_at_once)).unwrap_or(usual.calls_at_once),
        }
    }
}

/// Money for one account beyond its allowances.
#[derive(Clone, Copy, Debug)]
pub struct CreditGrant<'a> {
    pub account: AccountId,
    /// For the audit.
    pub handle: &'a Handle,
    /// Below zero, it is taken back.
    pub nanodollars: Nanodollars,
    /// What it is for; the account's owner sees it.
    pub note: &'a str,
}
