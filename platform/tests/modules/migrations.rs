//! Schema migrations: each is applied as a whole or not at all, on data.

use std::collections::BTreeMap;

use ::migrations::{Migrator, MigratorTrait as _, SqlMigration};
use sea_orm::{ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement};
use sea_orm_migration::{MigrationTrait, MigratorTraitSelf};
use uuid::Uuid;

use berth_testing::databases::urls_without_schema;

/// Rows that later migrations change, each written after the migration of that number. `@N` is an id, `#` some bytes.
const ROWS: [(usize, &str); 10] = [
    (1, "INSERT INTO accounts VALUES (@1, 'alice', 'alice', 'member', 'active', #, 0, 0, 0, 0)"),
    (2, "INSERT INTO instances VALUES (@2, @1, 'alice', 0, 'image', 'available', 'mail', 0, 'awake', 0, NULL, 0, NULL, 7)"),
    (2, "INSERT INTO transitions VALUES (@3, @2, 0, 'stopped', 'awake', 'mail')"),
    (3, "INSERT INTO allowances VALUES (@1, '2026-11', 1000, 300, 50)"),
    (3, "INSERT INTO holds VALUES (@4, @1, @2, '2026-11', 'demo', 'berth-demo', 'v1', 50, 5)"),
    (
        3,
        "INSERT INTO receipts VALUES (@5, @1, @2, '2026-11', 'demo', 'berth-demo', 'v1', 400, 300, 1, 2, 3, 4, 5,
            'provider', 'completed', '{}', 1, 2)",
    ),
    (3, "INSERT INTO prices VALUES ('v1', 'demo', 'berth-demo', '{}')"),
    (8, "INSERT INTO mail_paths VALUES (@2, '/hooks/github', 7)"),
    (
        8,
        "INSERT INTO letters VALUES (@6, @2, 3, NULL, 'POST', '/hooks/github', '/hooks/github', '[]', #, 40, 'failed', 2,
            10, 20, 30, NULL, '503')",
    ),
    (9, "INSERT INTO departures VALUES (@1, @2, 'owner', 'active', 1, 2, NULL, NULL)"),
];

/// The migrations up to one that fails after some of its statements.
struct CutMigrator {
    applied: usize,
    /// How many statements of the next one run before one fails.
    statements: usize,
}

impl MigratorTraitSelf for CutMigrator {
    fn migrations(&self) -> Vec<Box<dyn MigrationTrait>> {
        let mut all = ::migrations::all();
        all.truncate(self.applied + 1);
        let last = all.last_mut().unwrap();
        let cut = last.statements[..self.statements].iter().copied().chain(["CUT"]);
        last.statements = cut.collect::<Vec<&'static str>>().leak();
        all.into_iter().map(|migration: SqlMigration| Box::new(migration) as Box<dyn MigrationTrait>).collect()
    }
}

async fn texts(connection: &DatabaseConnection, query: &str) -> Vec<String> {
    let query = Statement::from_string(connection.get_database_backend(), query);
    let rows = connection.query_all_raw(query).await.unwrap();
    rows.iter().map(|row| row.try_get_by_index(0).unwrap()).collect()
}

/// The schema, and every row of every table as text.
async fn contents(connection: &DatabaseConnection) -> BTreeMap<String, Vec<String>> {
    let is_sqlite = connection.get_database_backend() == DbBackend::Sqlite;
    let (schema, tables) = if is_sqlite {
        (
            "SELECT name || coalesce(sql, '') FROM sqlite_schema ORDER BY 1",
            "SELECT name FROM sqlite_schema WHERE type = 'table'",
        )
    } else {
        (
            "SELECT table_name || ' ' || column_name || ' ' || data_type FROM information_schema.columns
                WHERE table_schema = 'public' UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
            "SELECT table_name::text FROM information_schema.tables WHERE table_schema = 'public'",
        )
    };
    let mut contents = BTreeMap::from([("schema".to_owned(), texts(connection, schema).await)]);
    for table in texts(connection, tables).await {
        let row = if is_sqlite {
            let columns =
                texts(connection, &format!("SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')"));
            columns.await.join(" || ',' || ")
        } else {
            format!("{table}::text")
        };
        let rows = texts(connection, &format!("SELECT {row} FROM {table} ORDER BY 1")).await;
        contents.insert(table, rows);
    }
    contents
}

async fn add_rows(connection: &DatabaseConnection, applied: usize) {
    let is_sqlite = connection.get_database_backend() == DbBackend::Sqlite;
    for (_, row) in ROWS.iter().filter(|(after, _)| *after == applied) {
        let mut row = row.replace('#', if is_sqlite { "X'00'" } else { "'\\x00'::bytea" });
        for n in 1..9 {
            let id = if is_sqlite { format!("X'{n:032x}'") } else { format!("'{}'", Uuid::from_u128(n)) };
            row = row.replace(&format!("@{n}"), &id);
        }
        connection.execute_unprepared(&row).await.unwrap();
    }
}

#[tokio::test]
async fn a_migration_that_is_cut_after_any_statement_changes_nothing_and_begins_again() {
    let dir = tempfile::tempdir().unwrap();
    for url in urls_without_schema(dir.path()) {
        let connection = Database::connect(&url).await.unwrap();
        Migrator::up(&connection, Some(0)).await.unwrap();
        for (applied, migration) in ::migrations::all().iter().enumerate() {
            let before = contents(&connection).await;
            for statements in 0..=migration.statements.len() {
                let cut = CutMigrator { applied, statements };
                cut.up(&connection, None).await.unwrap_err();
                assert_eq!(contents(&connection).await, before, "{} cut after {statements}; {url}", migration.name);
            }
            Migrator::up(&connection, Some(1)).await.unwrap();
            add_rows(&connection, applied + 1).await;
        }
        for (query, found) in [
            ("SELECT CAST(spent_nanodollars AS text) FROM allowances", vec!["350"]),
            (
                "SELECT outcome || ' ' || day FROM receipts ORDER BY 1",
                vec!["completed 2026-11-01", "recovered 2026-11-01"],
            ),
            ("SELECT CAST(amount_nanodollars AS text) FROM spend_days", vec!["350"]),
            ("SELECT state || ' ' || last_result FROM webhook_deliveries", vec!["dead_letter 503"]),
            ("SELECT handle FROM certificates", vec!["alice"]),
            ("SELECT wish_cause || ' ' || fact_cause FROM instances", vec!["webhook found_so"]),
            ("SELECT cause FROM transitions", vec!["webhook"]),
        ] {
            assert_eq!(texts(&connection, query).await, found, "{query}; {url}");
        }
    }
}
