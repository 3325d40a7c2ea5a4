//! Entities of the tables of prices, for the store beside this file.

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
        /// Empty for the table that came with the program.
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
