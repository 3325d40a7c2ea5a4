//! The tables of the quota room as sea-orm sees them. Used by `store.rs`; a receipt is shown as it is.

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

pub mod limits {
    //! An account's own limits; what is null is the installation's.
    use sea_orm::entity::prelude::*;
    use serde::Serialize;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
    #[sea_orm(table_name = "quota_limits")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        #[serde(skip)]
        pub account_id: AccountId,
        pub month_nanodollars: Option<i64>,
        pub day_nanodollars: Option<i64>,
        pub requests_a_minute: Option<i64>,
        pub tokens_a_minute: Option<i64>,
        pub calls_at_once: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod credits {
    //! Money given beyond the months' allowances.
    use sea_orm::entity::prelude::*;
    use uuid::Uuid;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "credits")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub account_id: AccountId,
        pub amount_nanodollars: i64,
        pub note: String,
        pub at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod receipts {
    //! Calls that are over, and corrections. Rows are added, never changed.
    use sea_orm::entity::prelude::*;
    use serde::{Deserialize, Serialize};

    use crate::db::{AccountId, HoldId, InstanceId};

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, DeriveEntityModel)]
    #[sea_orm(table_name = "receipts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: HoldId,
        pub account_id: AccountId,
        pub instance_id: InstanceId,
        pub period: String,
        pub day: String,
        pub provider: String,
        pub model: String,
        pub agent: String,
        pub price_version: String,
        pub held_nanodollars: i64,
        pub amount_nanodollars: i64,
        pub input_tokens: i64,
        pub cache_write_tokens: i64,
        pub cache_write_long_tokens: i64,
        pub cache_read_tokens: i64,
        pub output_tokens: i64,
        pub basis: String,
        pub outcome: String,
        /// The usage that was priced, as JSON, so that it can be priced again.
        pub counted: String,
        /// The provider's own figures as JSON, or nothing.
        pub usage: String,
        pub held_at_ms: i64,
        pub settled_at_ms: i64,
        /// The receipt that this one corrects.
        pub corrects: Option<HoldId>,
        /// Why the amount is what it is: of a correction, and of a model that had no price of its own; empty for others.
        pub reason: String,
        /// From 1 in each account; 0 for receipts from before they were chained.
        pub seq: i64,
        /// The digest of the receipt before it.
        pub previous: String,
        pub hash: String,
        /// Of the newest receipt of a batch; empty for the others.
        pub signature: String,
        /// `budget`, or `own_key`: the owner pays the provider, and the amount is nothing.
        pub payer: String,
        /// What a call under an own key is worth by the price table, where that is known.
        pub worth_nanodollars: Option<i64>,
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
    //! Allowances of which a part was spent that somebody should know of.
    use sea_orm::entity::prelude::*;
    use serde::Serialize;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveEntityModel)]
    #[sea_orm(table_name = "quota_alerts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        #[serde(skip)]
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
        #[serde(skip)]
        pub told_at_ms: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod books {
    //! One row: which opening of the books is the latest.
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "books")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: i64,
        pub epoch: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod price_versions {
    //! Tables of prices: where each came from, and when the operator last put it in force.
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "price_versions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: String,
        pub source: String,
        /// As it was imported; empty for versions from before that was kept.
        pub table_text: String,
        pub imported_at_ms: i64,
        /// Nobody for what came with the program.
        pub imported_by: String,
        /// 0: never, or not any more. The latest is in force; without one, the table the program was built with.
        pub chosen_at_ms: i64,
        pub chosen_by: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod prices {
    //! Prices by version; a version's rows are written once.
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "prices")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub version: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub provider: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub model: String,
        pub price: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
