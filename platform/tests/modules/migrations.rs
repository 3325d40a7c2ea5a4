//! Schema migrations: each is applied as a whole or not at all, on data, and an SQLite file is copied before the first.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use ::migrations::{Migrator, SqlMigration};
use berth::db::Db;
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
            let columns = format!("SELECT 'quote(' || name || ')' FROM pragma_table_info('{table}')");
            texts(connection, &columns).await.join(" || ',' || ")
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
        Migrator.up(&connection, Some(0)).await.unwrap();
        for (applied, migration) in ::migrations::all().iter().enumerate() {
            let before = contents(&connection).await;
            for statements in 0..=migration.statements.len() {
                let cut = CutMigrator { applied, statements };
                cut.up(&connection, None).await.unwrap_err();
                assert_eq!(contents(&connection).await, before, "{} cut after {statements}; {url}", migration.name);
            }
            Migrator.up(&connection, Some(1)).await.unwrap();
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

/// A database on SQLite with all migrations but the last `pending`, and an account.
async fn older_database(folder: &Path, pending: usize) -> String {
    let url = format!("sqlite:{}", folder.join("berth.db").display());
    let connection = Database::connect(format!("{url}?mode=rwc")).await.unwrap();
    let applied = u32::try_from(::migrations::all().len() - pending).unwrap();
    Migrator.up(&connection, Some(applied)).await.unwrap();
    add_rows(&connection, 1).await;
    connection.close().await.unwrap();
    url
}

fn copies(folder: &Path) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut copies: Vec<String> = names.filter(|name| name.contains(".before-")).collect();
    copies.sort();
    copies
}

#[tokio::test]
async fn a_database_is_copied_before_its_first_pending_migration() {
    let dir = tempfile::tempdir().unwrap();
    let url = older_database(dir.path(), 2).await;
    let all = ::migrations::all();
    let first = &all[all.len() - 2].name[..5];
    // Of earlier upgrades, and an attempt of this one that did not end.
    for old in ["m0003", "m0001", "m0002", "m0004"] {
        std::fs::write(dir.path().join(format!("berth.db.before-{old}")), "old").unwrap();
    }
    std::fs::write(dir.path().join(format!("berth.db.before-{first}")), "of an earlier attempt").unwrap();
    std::fs::write(dir.path().join(format!("berth.db.before-{first}.new")), "half").unwrap();

    Db::open_and_migrate(&url).await.unwrap();
    let copy = format!("berth.db.before-{first}");
    assert_eq!(copies(dir.path()), ["berth.db.before-m0003", "berth.db.before-m0004", &*copy], "the newest three stay");
    let copy = dir.path().join(copy);
    assert_eq!(copy.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let connection = Database::connect(format!("sqlite:{}", copy.display())).await.unwrap();
    assert_eq!(Migrator.get_pending_migrations(&connection).await.unwrap().len(), 2);
    assert_eq!(texts(&connection, "SELECT handle FROM accounts").await, ["alice"]);

    // Neither a start without a migration nor a new database makes one.
    std::fs::remove_file(&copy).unwrap();
    Db::open_and_migrate(&url).await.unwrap();
    assert!(!copy.exists());
    let new = tempfile::tempdir().unwrap();
    Db::open_and_migrate(&format!("sqlite:{}", new.path().join("berth.db").display())).await.unwrap();
    assert_eq!(copies(new.path()), Vec::<String>::new());
}

/// A file system of 4 MiB; unmounted with the test.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=4m", "story"]).arg(folder.path()).status();
        assert!(mount.unwrap().success(), "this test mounts a small file system, which needs root");
        Self(folder)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[tokio::test]
async fn without_room_for_the_copy_nothing_is_migrated() {
    let disk = SmallDisk::mount();
    let folder = disk.0.path();
    let url = older_database(folder, 1).await;
    let filler = folder.join("filler");
    // The write-ahead log needs a little room too.
    std::fs::write(&filler, vec![0; 4 << 20]).unwrap_err();
    let full = std::fs::File::options().write(true).open(&filler).unwrap();
    full.set_len(full.metadata().unwrap().len() - (128 << 10)).unwrap();
    // A file keeps its blocks while it is open, also once it is removed.
    drop(full);

    let refused = format!("{:#}", Db::open_and_migrate(&url).await.unwrap_err());
    assert!(refused.contains("Make 2 MiB of room on that disk, then start again"), "{refused}");
    assert_eq!(copies(folder), Vec::<String>::new(), "no half copy keeps the disk full");
    let waits = format!("{:#}", Db::open(&url).await.unwrap_err());
    assert!(waits.contains("lacks 1 migrations"), "{waits}");

    std::fs::remove_file(&filler).unwrap();
    Db::open_and_migrate(&url).await.unwrap();
    assert_eq!(copies(folder).len(), 1);
}
