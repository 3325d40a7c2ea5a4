//! The tables of the quota room as sea-orm sees them. Private to the room, used by `store.rs`.

pub mod allowances {
    //! What an account may spend in a month, has spent, and has held.
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
        pub held_nanodollars: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod holds {
    //! Calls in flight: the durable intent.
    use sea_orm::entity::prelude::*;

    use crate::db::{AccountId, HoldId, InstanceId};

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "holds")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: HoldId,
        pub account_id: AccountId,
        pub instance_id: InstanceId,
        pub period: String,
        pub provider: String,
        pub model: String,
        pub price_version: String,
        pub amount_nanodollars: i64,
        pub at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod receipts {
    //! Calls that are over.
    use sea_orm::entity::prelude::*;

    use crate::db::{AccountId, HoldId, InstanceId};

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "receipts")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: HoldId,
        pub account_id: AccountId,
        pub instance_id: InstanceId,
        pub period: String,
        pub provider: String,
        pub model: String,
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
        pub usage: String,
        pub held_at_ms: i64,
        pub settled_at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod prices {
    //! Prices by version.
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
