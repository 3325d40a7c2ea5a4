//! Entities of the tables that more than one store of quota reads, and the SQL sum of money.

use std::str::FromStr;

use berth_ground::error::{Error, Result};
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _};

use super::calendar::PeriodError;

/// A sum as bigint. PostgreSQL sums bigints to numeric, which does not decode as `i64`.
pub fn sum_as_bigint(column: Expr) -> Expr {
    column.sum().cast_as(Alias::new("bigint"))
}

/// Parses a month or a day from its column.
///
/// # Errors
/// When the column holds any other text, which Berth never writes.
pub fn parse<P: FromStr<Err = PeriodError>>(column: &str) -> Result<P> {
    column.parse().map_err(|error| Error::Internal(anyhow::anyhow!("{column:?} in the database is {error}")))
}

pub mod allowances {
    //! Allowance and spending of an account by month.
    use berth_ground::money::Nanodollars;
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "allowances")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        #[sea_orm(primary_key, auto_increment = false)]
        pub period: String,
        pub allowance_nanodollars: Nanodollars,
        pub spent_nanodollars: Nanodollars,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod spend_days {
    //! Receipts summed by day, model and agent: pages read these, and they stay when old receipts are deleted.
    use berth_ground::money::Nanodollars;
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "spend_days")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        #[sea_orm(primary_key, auto_increment = false)]
        pub day: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub provider: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub model: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub agent: String,
        pub calls: i64,
        pub input_tokens: i64,
        pub output_tokens: i64,
        pub amount_nanodollars: Nanodollars,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod alerts {
    //! Thresholds of allowances that spending reached, and whether the owner was told.
    use berth_ground::money::Nanodollars;
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "quota_alerts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        /// A month, `2026-11`, or a day, `2026-11-25`.
        #[sea_orm(primary_key, auto_increment = false)]
        pub period: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub percent: i64,
        pub allowance_nanodollars: Nanodollars,
        /// When it was raised.
        pub spent_nanodollars: Nanodollars,
        pub raised_at_ms: i64,
        pub told_at_ms: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
