//! Amounts of money in nano-dollars, billionths of a US dollar.
//!
//! An integer adds up without rounding, and a nano-dollar is small enough for the price of a single token. A field that
//! leaves Rust (a column, JSON, a journal line) is named `..._nanodollars` and holds the integer alone.

use std::iter::Sum;
use std::ops::{AddAssign, Neg, Sub, SubAssign};

use serde::{Deserialize, Serialize};

/// An amount of money in nano-dollars. Below zero it is a refund, or the remainder of an overspent budget.
///
/// The operators are those of `i64`, and the sum of all that is ever spent is far from its ends. Where a configured
/// limit takes part, which may be the largest `i64`, the code names the behaviour at the ends: `saturating_add`,
/// `checked_add`.
///
/// It has no `Display`: bare digits would read as dollars on a page, and text in dollars would change the hashes of
/// corrections, which are made from the digits. `berth::quota::dollars` formats for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "sea-orm", derive(sea_orm::DeriveValueType))]
#[serde(transparent)]
pub struct Nanodollars(pub i64);

impl Nanodollars {
    pub const ZERO: Self = Self(0);
    /// The amount of a limit that limits nothing.
    pub const MAX: Self = Self(i64::MAX);

    /// The sum; at the ends of the type, the end.
    #[must_use]
    pub fn saturating_add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The difference; at the ends of the type, the end.
    #[must_use]
    pub fn saturating_sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// The amount with the other sign; of the least amount, the largest.
    #[must_use]
    pub fn saturating_neg(self) -> Self {
        Self(self.0.saturating_neg())
    }

    /// The sum, or `None` beyond the ends of the type.
    #[must_use]
    pub fn checked_add(self, other: Self) -> Option<Self> {
        self.0.checked_add(other.0).map(Self)
    }

    /// Whether the amount is at least `percent` of `whole`. In 128 bits, because a limit may be the largest `i64`.
    #[must_use]
    pub fn is_at_least_percent_of(self, percent: i64, whole: Self) -> bool {
        i128::from(self.0) * 100 >= i128::from(whole.0) * i128::from(percent)
    }
}

impl AddAssign for Nanodollars {
    fn add_assign(&mut self, other: Self) {
        self.0 += other.0;
    }
}

impl Sub for Nanodollars {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self(self.0 - other.0)
    }
}

impl SubAssign for Nanodollars {
    fn sub_assign(&mut self, other: Self) {
        self.0 -= other.0;
    }
}

impl Neg for Nanodollars {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0)
    }
}

impl Sum for Nanodollars {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|amount| amount.0).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn named_arithmetic_ends_at_the_ends_of_the_type() {
        let (most, least, one) = (Nanodollars::MAX, Nanodollars(i64::MIN), Nanodollars(1));
        assert_eq!((most.saturating_add(one), least.saturating_sub(one)), (most, least));
        assert_eq!((least.saturating_neg(), one.saturating_neg()), (most, Nanodollars(-1)));
        assert_eq!((most.checked_add(one), one.checked_add(one)), (None, Some(Nanodollars(2))));
    }

    #[test]
    fn a_percentage_is_exact_up_to_the_largest_amount() {
        let most = Nanodollars::MAX;
        assert!(most.is_at_least_percent_of(100, most) && Nanodollars(4).is_at_least_percent_of(80, Nanodollars(5)));
        assert!(!Nanodollars(3_999_999_999).is_at_least_percent_of(80, Nanodollars(5_000_000_000)));
    }
}
