//! The connection to SQLite or PostgreSQL. Nothing above this folder knows which of the two it is.

pub mod audit;

use std::time::Duration;

use anyhow::Context as _;
pub use berth_ground::ids::{AccountId, HoldId, InstanceId, SessionId};
use migrations::{MigrationStatus, MigratorTrait as _};
use sea_orm::sqlx::sqlite::SqliteSynchronous;
use sea_orm::{
    AccessMode, ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    ExecResult, IsolationLevel, QueryResult, SqlErr, SqliteTransactionMode, Statement, TransactionOptions,
    TransactionTrait as _,
};

use crate::error::Error;

/// Keeps the migrations from telling of their own beginning, as a directive of the log's filter.
pub const QUIET_LOG: &str = "sea_orm_migration=warn";
/// How long a statement waits for a connection or for SQLite's write lock before it gives up.
const WAIT: Duration = Duration::from_secs(5);
/// Connections for reading. More than the machine's cores would only queue elsewhere.
const READERS: u32 = 4;

/// The database: one way to read, one way to write.
#[derive(Clone, Debug)]
pub struct Db {
    readers: DatabaseConnection,
    writer: DatabaseConnection,
}

impl Db {
    /// Connects to the database at `url` (`sqlite:/path/berth.db` or `postgres://..`), which must have today's schema:
    /// for whoever only looks or writes a wish. Makes and changes nothing.
    ///
    /// # Errors
    /// When there is none, it cannot be reached, or its schema is older or newer than this program's.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let db = Self::connect(url, IfMissing::Refuse).await?;
        db.expect_schema().await?;
        Ok(db)
    }

    /// Connects to `url`, makes the SQLite file where there is none, and brings the schema up to date: for `serve`.
    ///
    /// # Errors
    /// When the database cannot be reached or a migration fails.
    pub async fn open_and_migrate(url: &str) -> anyhow::Result<Self> {
        let db = Self::connect(url, IfMissing::Create).await?;
        if db.writer.get_database_backend() == DbBackend::Sqlite {
            // It lets readers go on while the one writer writes, and stays with the file.
            db.writer.execute_unprepared("PRAGMA journal_mode = WAL").await.context("switching to WAL")?;
        }
        migrations::Migrator::up(&db.writer, None).await.context("bringing the database schema up to date")?;
        Ok(db)
    }

    /// SQLite is opened with one writing connection: with several, a transaction that reads before it writes
    /// fails at once when another wrote in between, and no timeout helps.
    async fn connect(url: &str, if_missing: IfMissing) -> anyhow::Result<Self> {
        if url.starts_with("sqlite:") {
            let writer = connect(url, 1, if_missing).await.with_context(|| no_database(url))?;
            Ok(Self { readers: connect(url, READERS, IfMissing::Refuse).await?, writer })
        } else {
            let pool = connect(url, READERS * 2, if_missing).await?;
            Ok(Self { readers: pool.clone(), writer: pool })
        }
    }

    async fn expect_schema(&self) -> anyhow::Result<()> {
        let steps = migrations::Migrator::get_migration_with_status_read_only(&self.readers)
            .await
            .context("the database belongs to a newer version of Berth: use that version")?;
        let waiting = steps.iter().filter(|step| step.status() == MigrationStatus::Pending).count();
        anyhow::ensure!(
            waiting < steps.len(),
            "there is no Berth in the database yet: run scripts/up (berth serve) once"
        );
        anyhow::ensure!(
            waiting == 0,
            "the database is {waiting} changes behind this version: run scripts/up (berth serve) once"
        );
        Ok(())
    }

    /// The connection for reading outside a transaction.
    #[must_use]
    pub fn read(&self) -> &DatabaseConnection {
        &self.readers
    }

    /// Begins the only kind of transaction that writes; dropping it without [`Tx::commit`] undoes everything.
    ///
    /// # Errors
    /// When no connection becomes free in time.
    pub async fn begin(&self) -> Result<Tx, Error> {
        let options = match self.writer.get_database_backend() {
            DbBackend::Sqlite => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
                ..Default::default()
            },
            _ => TransactionOptions::default(),
        };
        Ok(Tx(self.writer.begin_with_options(options).await?))
    }

    /// Begins a transaction for reading only, in which every statement sees the same moment.
    ///
    /// # Errors
    /// When no connection becomes free in time.
    pub async fn begin_reading(&self) -> Result<DatabaseTransaction, Error> {
        let options = match self.readers.get_database_backend() {
            // A transaction of SQLite sees one moment as it is.
            DbBackend::Sqlite => TransactionOptions::default(),
            _ => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                ..Default::default()
            },
        };
        Ok(self.readers.begin_with_options(options).await?)
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// When it does not.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(self.readers.ping().await?)
    }
}

/// An open transaction: the only thing a store may write through.
#[derive(Debug)]
pub struct Tx(DatabaseTransaction);

impl Tx {
    /// Makes everything done in this transaction lasting.
    ///
    /// # Errors
    /// When the database refuses; nothing has been written then.
    pub async fn commit(self) -> Result<(), Error> {
        Ok(self.0.commit().await?)
    }

    /// Undoes everything done in this transaction, or since this savepoint.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn rollback(self) -> Result<(), Error> {
        Ok(self.0.rollback().await?)
    }

    /// Begins a transaction inside this one (`SAVEPOINT`): rolling it back leaves what came before it.
    ///
    /// # Errors
    /// When the database refuses.
    pub async fn savepoint(&self) -> Result<Self, Error> {
        Ok(Self(self.0.begin().await?))
    }
}

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
    options.max_connections(connections).acquire_timeout(WAIT).connect_timeout(WAIT).sqlx_logging(false);
    // FULL makes every commit reach the disk, because a hold on money must survive a power cut.
    options.map_sqlx_sqlite_opts(move |sqlite| {
        sqlite.create_if_missing(if_missing == IfMissing::Create).synchronous(SqliteSynchronous::Full)
    });
    Database::connect(options).await.context("connecting to the database named by DATABASE_URL")
}

fn no_database(url: &str) -> String {
    format!("there is no database at {url}, or it cannot be opened: run scripts/up (berth serve) once")
}

/// Whether `error` says that a row with the same unique value is there already.
#[must_use]
pub fn is_duplicate(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn looking_makes_no_database() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("berth.db");
        for url in [format!("sqlite:{}", file.display()), format!("sqlite:{}?mode=rwc", file.display())] {
            let refused = format!("{:#}", Db::open(&url).await.unwrap_err());
            assert!(refused.contains("run scripts/up (berth serve) once"), "{refused}");
            assert!(!file.exists(), "{url}");
        }
    }

    #[tokio::test]
    async fn looking_changes_no_schema() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", dir.path().join("berth.db").display());
        let (first, all) = (1, u32::try_from(migrations::Migrator::migrations().len()).unwrap());
        for (applied, said) in [(0, "no Berth in the database yet"), (first, "behind this version")] {
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
