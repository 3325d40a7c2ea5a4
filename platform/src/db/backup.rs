//! The backup before a schema migration: a copy of the SQLite file that the previous version can open.
//!
//! Migrations have no way back. An operator who has to return to the previous version puts this copy in the place of
//! the database. Databases on PostgreSQL are backed up by their own tools.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use migrations::{MigrationStatus, MigratorTrait as _};
use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, Statement};

/// How many backups are kept; each is as large as the database was.
const KEPT: usize = 3;

/// Copies the SQLite database to `FILE.before-mNNNN`, where mNNNN is its first pending migration, and removes older
/// copies beyond [`KEPT`]. Does nothing when no migration is pending, or all are: there is nothing to lose then.
///
/// # Errors
/// When the copy cannot be written, such as on a full disk. The database has not changed then.
pub(super) async fn before_migrations(connection: &DatabaseConnection) -> anyhow::Result<()> {
    if connection.get_database_backend() != DbBackend::Sqlite {
        return Ok(());
    }
    let steps = migrations::Migrator::get_migration_with_status_read_only(connection)
        .await
        .context("the database belongs to a newer version of Berth: use that version")?;
    let mut pending = steps.iter().filter(|step| step.status() == MigrationStatus::Pending);
    let Some(first) = pending.next() else { return Ok(()) };
    let is_empty = pending.count() + 1 == steps.len();
    let Some(file) = file_of(connection).await?.filter(|_| !is_empty) else { return Ok(()) };
    let number = first.name().split('_').next().unwrap_or_default();
    let copy = with_suffix(&file, &format!(".before-{number}"));
    write(connection, &copy).await.with_context(|| {
        let bytes = fs::metadata(&file).map_or(0, |file| file.len());
        format!(
            "the schema of the database has to change, and the copy of it that is made before cannot be written to {}. \
             Make {} MiB of room on that disk, then start again; nothing has changed yet",
            copy.display(),
            bytes.div_ceil(1 << 20) + 1
        )
    })?;
    tracing::info!(copy = %copy.display(), "copied the database before its migration");
    remove_old(&file);
    Ok(())
}

/// The database's file; `None` for a database in memory.
async fn file_of(connection: &DatabaseConnection) -> anyhow::Result<Option<PathBuf>> {
    let main = "SELECT file FROM pragma_database_list WHERE name = 'main'";
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Sqlite, main)).await?;
    let file: Option<String> = row.map(|row| row.try_get("", "file")).transpose()?;
    Ok(file.filter(|file| !file.is_empty()).map(PathBuf::from))
}

/// Writes the copy under another name and renames it when it is whole, so that a copy of an earlier attempt is replaced
/// by a newer one and never by half of one.
async fn write(connection: &DatabaseConnection, copy: &Path) -> anyhow::Result<()> {
    let new = with_suffix(copy, ".new");
    let written = async {
        remove_if_there(&new)?;
        // VACUUM INTO writes to an empty file that is there. Created by SQLite it would be readable for everyone, and
        // the database holds one-time-code secrets.
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        let into = Statement::from_sql_and_values(DbBackend::Sqlite, "VACUUM INTO ?", [new.to_string_lossy().into()]);
        connection.execute_raw(into).await?;
        fs::File::open(&new)?.sync_all()?;
        fs::rename(&new, copy)?;
        if let Some(folder) = copy.parent() {
            fs::File::open(folder)?.sync_all()?;
        }
        anyhow::Ok(())
    }
    .await;
    if written.is_err() {
        // Half a copy would keep the disk full.
        let _ = fs::remove_file(&new);
    }
    written
}

fn remove_if_there(file: &Path) -> std::io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Removes the copies before older migrations. One that cannot be removed is logged: it only takes room.
fn remove_old(file: &Path) {
    let (Some(folder), Some(name)) = (file.parent(), file.file_name()) else { return };
    let prefix = format!("{}.before-m", name.to_string_lossy());
    let is_copy = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.strip_prefix(&prefix).is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut copies: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(is_copy).collect();
    copies.sort();
    for old in copies.iter().rev().skip(KEPT) {
        if let Err(error) = fs::remove_file(old) {
            tracing::warn!(copy = %old.display(), %error, "could not remove an old copy of the database");
        }
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
