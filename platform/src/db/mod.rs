//! The connection to SQLite or PostgreSQL. Nothing above this folder knows which of the two it is.

mod ids;

use std::time::Duration;

use anyhow::Context as _;
pub use ids::{AccountId, HoldId, InstanceId, SessionId};
use migrations::MigratorTrait as _;
use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, SqlErr,
    SqliteTransactionMode, TransactionOptions, TransactionTrait as _,
};

use crate::clock::Timestamp;
use crate::error::Error;

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
    /// Connects to `url` (`sqlite:/path/berth.db` or `postgres://..`) and brings the schema up to date.
    ///
    /// SQLite is opened with one writing connection: with several, a transaction that reads before it writes
    /// fails at once when another wrote in between, and no timeout helps.
    ///
    /// # Errors
    /// When the database cannot be reached or a migration fails.
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        let db = if url.starts_with("sqlite:") {
            Self::open_sqlite(url).await?
        } else {
            let pool = connect(url, READERS * 2).await?;
            Self { readers: pool.clone(), writer: pool }
        };
        migrations::Migrator::up(&db.writer, None).await.context("bringing the database schema up to date")?;
        Ok(db)
    }

    async fn open_sqlite(url: &str) -> anyhow::Result<Self> {
        let url = if url.contains('?') { url.to_owned() } else { format!("{url}?mode=rwc") };
        let writer = connect(&url, 1).await?;
        // WAL lets readers go on while the one writer writes; FULL makes every commit reach the disk,
        // because a hold on money must survive a power cut.
        for pragma in ["PRAGMA journal_mode = WAL", "PRAGMA synchronous = FULL"] {
            writer.execute_unprepared(pragma).await.with_context(|| format!("running {pragma}"))?;
        }
        Ok(Self { readers: connect(&url, READERS).await?, writer })
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
}

impl std::ops::Deref for Tx {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.0
    }
}

async fn connect(url: &str, connections: u32) -> anyhow::Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).acquire_timeout(WAIT).connect_timeout(WAIT).sqlx_logging(false);
    Database::connect(options).await.context("connecting to the database named by DATABASE_URL")
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if is_gone(&error) {
            tracing::error!(error = %error, "database does not answer");
            return Self::Unavailable {
                message: "Berth cannot reach its database just now. Please try again in a moment.".into(),
                retry_after: Duration::from_secs(5),
            };
        }
        Self::Internal(anyhow::Error::new(error).context("database"))
    }
}

fn is_gone(error: &DbErr) -> bool {
    matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_))
}

/// Whether `error` says that a row with the same unique value is there already.
#[must_use]
pub fn is_duplicate(error: &DbErr) -> bool {
    matches!(error.sql_err(), Some(SqlErr::UniqueConstraintViolation(_)))
}

impl From<Timestamp> for sea_orm::Value {
    fn from(at: Timestamp) -> Self {
        at.0.into()
    }
}
