//! Calls that hardly fit: whether a smaller bound would.

use super::limits::Amount;
use super::rules::{self, Demand};
use super::{AccountId, Quota};

impl Quota {
    /// Whether what `demand` can cost is left to `account` just now, in money and in tokens a minute. Nothing is held: by
    /// the time of its admission it may be otherwise.
    pub async fn has_room_for(&self, account: AccountId, demand: &Demand) -> bool {
        let Some(price) = self.0.prices().find(&demand.provider, &demand.model) else { return false };
        let Ok(bound) = rules::bound(&price, demand) else { return false };
        match self.0.books(account).await {
            Ok(books) => Amount::of(&bound).fits_into(books.most()),
            Err(_) => false,
        }
    }
}
