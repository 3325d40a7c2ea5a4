//! Entities of the tables of receipts and of the ledger's epoch, for the store beside this file.

pub mod receipts {
    //! Finished calls, and corrections. Rows are added, never changed.
    use berth_ground::money::Nanodollars;
    use sea_orm::entity::prelude::*;

    use crate::db::{AccountId, HoldId, InstanceId};

    /// The fields are described in `ledger/receipt.rs`.
    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
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
        pub held_nanodollars: Nanodollars,
        pub amount_nanodollars: Nanodollars,
        pub input_tokens: i64,
        pub cache_write_tokens: i64,
        pub cache_write_long_tokens: i64,
        pub cache_read_tokens: i64,
        pub output_tokens: i64,
        pub basis: String,
        pub outcome: String,
        pub counted: String,
        pub usage: String,
        pub held_at_ms: i64,
        pub settled_at_ms: i64,
        pub corrects: Option<HoldId>,
        pub reason: String,
        pub seq: i64,
        pub previous: String,
        pub hash: String,
        pub signature: String,
        pub payer: String,
        pub worth_nanodollars: Option<Nanodollars>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod books {
    //! One row: the epoch, which every platform that opens the ledger raises.
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
