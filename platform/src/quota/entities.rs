//! The tables that more than one store of quota reads, as sea-orm sees them, and how their money is summed.

use std::str::FromStr;

use berth_ground::error::{Error, Result};
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _};

use super::calendar::PeriodError;

/// A sum as bigint: PostgreSQL sums bigints to numeric, which is no i64.
pub fn sum_as_bigint(column: Expr) -> Expr {
    column.sum().cast_as(Alias::new("bigint"))
}

/// A month or a day as a column has it.
///
/// # Errors
/// When the column has another text; nothing in Berth writes such a one.
pub fn parse<P: FromStr<Err = PeriodError>>(column: &str) -> Result<P> {
    column.parse().map_err(|error| Error::Internal(anyhow::anyhow!("{column:?} in the database is {error}")))
}

pub mod allowances {
    //! What an account may spend in a month, and has spent.
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "allowances")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        #[sea_orm(primary_key, auto_increment = false)]
        pub period: String,
        pub allowance_nanodollars: i64,
        pub spent_nanodollars: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod spend_days {
    //! Receipts summed up by day, model and agent: what pages show, and what stays when receipts are old.
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
        pub amount_nanodollars: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod alerts {
    //! Allowances of which a part was spent that their owner is told of.
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
        pub allowance_nanodollars: i64,
        /// When it was raised.
        pub spent_nanodollars: i64,
        pub raised_at_ms: i64,
        pub told_at_ms: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
