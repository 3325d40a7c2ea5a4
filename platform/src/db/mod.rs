//! The database: connection pools, transactions and migrations on SQLite or PostgreSQL. No other module depends on the
//! backend.

pub mod audit;
mod backup;
pub mod rows;

use std::time::Duration;

use anyhow::Context as _;
use berth_ground::error::Error;
pub use berth_ground::ids::{AccountId, HoldId, InstanceId, SessionId};
use migrations::{MigrationStatus, MigratorTrait as _};
use sea_orm::sqlx::sqlite::SqliteSynchronous;
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    ExecResult, IsolationLevel, QueryResult, SqlErr, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait as _,
};

/// A log filter directive that silences the migrations' progress messages.
pub const QUIET_LOG: &str = "sea_orm_migration=warn";
/// Timeout for acquiring a connection, which on SQLite includes waiting for the one writer.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections for reading. With more connections than cores, statements would queue for a core instead.
const READ_CONNECTIONS: u32 = 4;

/// The database, with one pool for reading and one for writing.
#[derive(Clone, Debug)]
pub struct Db {
    readers: DatabaseConnection,
    writer: DatabaseConnection,
}

impl Db {
    /// Connects to the database at `url` (`sqlite:/path/berth.db` or `postgres://..`), which must have the schema of
    /// this version. For commands of the operator: creates no file and runs no migration.
    ///
    /// # Errors
    /// When the database does not exist, cannot be reached, or has the schema of another version.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let db = Self::connect(url, IfMissing::Refuse).await?;
        db.expect_schema().await?;
        Ok(db)
    }

    /// Connects to `url`, creates a missing SQLite file, and runs the pending migrations, after a copy of the file was
    /// made. For `serve`.
    ///
    /// # Errors
    /// When the database cannot be reached or copied, or a migration fails: the database is then as it was before that
    /// migration, and the next start tries again.
    pub async fn open_and_migrate(url: &str) -> anyhow::Result<Self> {
        let db = Self::connect(url, IfMissing::Create).await?;
        if db.writer.get_database_backend() == DbBackend::Sqlite {
            // Write-ahead logging lets readers proceed during a write. The mode is stored in the file.
            db.writer.execute_unprepared("PRAGMA journal_mode = WAL").await.context("switching to WAL")?;
        }
        backup::before_migrations(&db.writer).await?;
        migrations::Migrator::up(&db.writer, None).await.context("bringing the database schema up to date")?;
        Ok(db)
    }

    async fn connect(url: &str, if_missing: IfMissing) -> anyhow::Result<Self> {
        if url.starts_with("sqlite:") {
            // One writing connection: with several, a transaction that reads before it writes fails with
            // SQLITE_BUSY_SNAPSHOT as soon as another one has written in between, and the busy timeout does not apply
            // to that.
            let writer = connect(url, 1, if_missing).await.with_context(|| no_database(url))?;
            Ok(Self { readers: connect(url, READ_CONNECTIONS, IfMissing::Refuse).await?, writer })
        } else {
            // PostgreSQL isolates concurrent writers itself, so one pool serves both.
            let pool = connect(url, READ_CONNECTIONS * 2, if_missing).await?;
            Ok(Self { readers: pool.clone(), writer: pool })
        }
    }

    async fn expect_schema(&self) -> anyhow::Result<()> {
        // Fails on a migration that this version does not know, which only a newer one can have run.
        let steps = migrations::Migrator::get_migration_with_status_read_only(&self.readers)
            .await
            .context("the database belongs to a newer version of Berth: use that version")?;
        let waiting = steps.iter().filter(|step| step.status() == MigrationStatus::Pending).count();
        anyhow::ensure!(waiting < steps.len(), "the database is empty: run scripts/up (berth serve) once");
        anyhow::ensure!(
            waiting == 0,
            "the database lacks {waiting} migrations of this version: run scripts/up (berth serve) once"
        );
        Ok(())
    }

    /// The pool for reading outside a transaction.
    #[must_use]
    pub fn read(&self) -> &DatabaseConnection {
        &self.readers
    }

    /// Begins a writing transaction; dropping it without [`Tx::commit`] rolls it back.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no connection becomes free in time.
    pub async fn begin(&self) -> Result<Tx, Error> {
        let options = match self.writer.get_database_backend() {
            DbBackend::Sqlite => TransactionOptions {
                // Takes the write lock at the start: a deferred transaction would fail when it upgrades from reading to
                // writing.
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            },
            _ => TransactionOptions::default(),
        };
        Ok(Tx(self.writer.begin_with_options(options).await?))
    }

    /// Begins a read-only transaction, in which every statement sees the same snapshot.
    ///
    /// # Errors
    /// [`Error::Unavailable`] when no connection becomes free in time.
    pub async fn begin_reading(&self) -> Result<DatabaseTransaction, Error> {
        let options = match self.readers.get_database_backend() {
            // Every SQLite transaction sees one snapshot.
            DbBackend::Sqlite => TransactionOptions::default(),
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..Default::default()
            },
        };
        Ok(self.readers.begin_with_options(options).await?)
    }

    /// Succeeds if the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(self.readers.ping().await?)
    }
}

/// An open writing transaction. Stores take it as their only way to write, so a use-case decides what commits together.
#[derive(Debug)]
pub struct Tx(DatabaseTransaction);

impl Tx {
    /// Commits. After an error nothing has been written.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.0.commit().await?)
    }

    /// Rolls back this transaction, or to this savepoint.
    pub async fn rollback(self) -> Result<(), Error> {
        Ok(self.0.rollback().await?)
    }

    /// Begins a nested transaction (`SAVEPOINT`). Rolling it back leaves the outer one intact.
    pub async fn savepoint(&self) -> Result<Self, Error> {
        Ok(Self(self.0.begin().await?))
    }
}

/// Lets sea-orm run statements in it. `Deref` to the inner transaction would do the same, but also offer sea-orm's own
/// commit.
#[async_trait::async_trait]
impl ConnectionTrait for Tx {
    fn get_database_backend(&self) -> DbBackend {
        self.0.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        self.0.execute_raw(statement).await
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        self.0.execute_unprepared(sql).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        self.0.query_one_raw(statement).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        self.0.query_all_raw(statement).await
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum IfMissing {
    Create,
    Refuse,
}

async fn connect(url: &str, connections: u32, if_missing: IfMissing) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_timeout(ACQUIRE_TIMEOUT)
        .sqlx_logging(false);
    // FULL makes SQLite fsync every commit: with NORMAL, a power cut may undo the last ones in WAL mode, receipts among
    // them. sqlx would log every statement; ours are logged where they fail.
    options.map_sqlx_sqlite_opts(move |sqlite| {
        // This also overrides a `mode=rwc` in the URL.
        sqlite.create_if_missing(if_missing == IfMissing::Create).synchronous(SqliteSynchronous::Full)
    });
    Database::connect(options).await.context("connecting to the database named by DATABASE_URL")
}

fn no_database(url: &str) -> String {
    format!("there is no database at {url}, or it cannot be opened: run scripts/up (berth serve) once")
}

/// Whether `error` is a violation of a unique constraint.
#[must_use]
pub fn is_duplicate(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn opening_creates_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("berth.db");
        for url in [format!("sqlite:{}", file.display()), format!("sqlite:{}?mode=rwc", file.display())] {
            let refused = format!("{:#}", Db::open(&url).await.unwrap_err());
            assert!(refused.contains("run scripts/up (berth serve) once"), "{refused}");
            assert!(!file.exists(), "{url}");
        }
    }

    #[tokio::test]
    async fn opening_runs_no_migration() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("berth.db").display());
        let (first, all) = (1, u32::try_from(migrations::Migrator::migrations().len()).unwrap());
        for (applied, said) in [(0, "database is empty"), (first, "migrations of this version")] {
            let db = Db::connect(&url, IfMissing::Create).await.unwrap();
            migrations::Migrator::up(&db.writer, Some(applied)).await.unwrap();
            for _ in 0..2 {
                let refused = format!("{:#}", Db::open(&url).await.unwrap_err());
                assert!(refused.contains(said), "{refused}");
            }
        }
        let db = Db::open_and_migrate(&url).await.unwrap();
        Db::open(&url).await.unwrap();
        let newer = format!("INSERT INTO seaql_migrations (version, applied_at) VALUES ('m{all:04}_of_tomorrow', 0)");
        db.writer.execute_unprepared(&newer).await.unwrap();
        let refused = format!("{:#}", Db::open(&url).await.unwrap_err());
        assert!(refused.contains("a newer version of Berth"), "{refused}");
    }
}
