//! Entities of the tables of limits and credit, for the store beside this file.

pub mod limits {
    //! The limits of single accounts; null: the installation's limit applies.
    use berth_ground::money::Nanodollars;
    use sea_orm::entity::prelude::*;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "quota_limits")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub account_id: AccountId,
        pub month_nanodollars: Option<Nanodollars>,
        pub day_nanodollars: Option<Nanodollars>,
        pub requests_a_minute: Option<i64>,
        pub tokens_a_minute: Option<i64>,
        pub calls_at_once: Option<i64>,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}

pub mod credits {
    //! Grants of credit beyond the months' allowances.
    use berth_ground::money::Nanodollars;
    use sea_orm::entity::prelude::*;
    use uuid::Uuid;

    use crate::db::AccountId;

    #[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
    #[sea_orm(table_name = "credits")]
    pub struct Model {
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub account_id: AccountId,
        pub amount_nanodollars: Nanodollars,
        pub note: String,
        pub at_ms: i64,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}
    impl ActiveModelBehavior for ActiveModel {}
}
