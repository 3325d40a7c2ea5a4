//! The sea-orm entities of the instances module's tables.

pub(super) mod instance {
    use sea_orm::entity::prelude::*;

    use crate::db::{AccountId, InstanceId};

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "instances")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: InstanceId,
        pub account_id: AccountId,
        pub handle: String,
        pub slot: i64,
        pub image: String,
        pub wish: String,
        pub wish_cause: String,
        pub wish_at_ms: i64,
        pub fact: String,
        pub fact_cause: String,
        pub fact_at_ms: i64,
        pub failure: Option<String>,
        pub active_at_ms: i64,
        pub last_work: Option<String>,
        pub token_hash: Option<Vec<u8>>,
        pub created_at_ms: i64,
        pub size: String,
        pub freeze_after_seconds: Option<i64>,
        pub stop_after_seconds: Option<i64>,
        pub remove_after_seconds: Option<i64>,
        pub image_before: Option<String>,
        pub image_refused: Option<String>,
        pub renew_at_ms: i64,
        pub ports: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod transition {
    use sea_orm::entity::prelude::*;

    use crate::db::InstanceId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "transitions")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub instance_id: InstanceId,
        pub at_ms: i64,
        pub from_fact: String,
        pub to_fact: String,
        pub cause: String,
        pub last_work: Option<String>,
        pub last_work_at_ms: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

pub(super) mod resting_slot {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "resting_slots")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub slot: i64,
        pub free_at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}
