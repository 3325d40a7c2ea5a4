//! A counter of visits in a file of the volume, which demonstrates that `$HOME` outlives the container.

use std::io;
use std::path::{Path, PathBuf};

use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

/// A number in a file. Crash-safe: a power cut leaves the old or the new number, never a part of one.
pub struct VisitCounter {
    file: PathBuf,
    last: Mutex<Option<u64>>,
}

impl VisitCounter {
    pub fn open(home: &Path) -> Self {
        Self { file: home.join(".berth/visits"), last: Mutex::new(None) }
    }

    /// Counts a visit, and returns the new number once it is on disk.
    ///
    /// # Errors
    /// When the volume cannot be read or written, for example because it is full. The number is then unchanged.
    pub async fn count(&self) -> io::Result<u64> {
        let mut last = self.last.lock().await;
        let before = match *last {
            Some(n) => n,
            None => self.read().await?,
        };
        self.write(before + 1).await?;
        *last = Some(before + 1);
        Ok(before + 1)
    }

    async fn read(&self) -> io::Result<u64> {
        match fs::read_to_string(&self.file).await {
            // The owner may edit every file of the volume: text that is not a number counts as zero.
            Ok(text) => Ok(text.trim().parse().unwrap_or(0)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(e) => Err(e),
        }
    }

    async fn write(&self, count: u64) -> io::Result<()> {
        let folder = self.file.parent().expect("the file is in a folder of $HOME");
        fs::create_dir_all(folder).await?;
        let new = self.file.with_extension("new");
        let mut file = fs::File::create(&new).await?;
        file.write_all(format!("{count}\n").as_bytes()).await?;
        file.sync_all().await?;
        // Durability: fsync of the content before the rename, and of the folder after it. Otherwise the rename may
        // reach the disk before the content, which would leave an empty file.
        fs::rename(&new, &self.file).await?;
        fs::File::open(folder).await?.sync_all().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_count_goes_on_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let visits = VisitCounter::open(home.path());
        assert_eq!(visits.count().await.unwrap(), 1);
        assert_eq!(visits.count().await.unwrap(), 2);
        assert_eq!(VisitCounter::open(home.path()).count().await.unwrap(), 3);
    }

    #[tokio::test]
    async fn visits_at_once_are_all_counted() {
        let home = tempfile::tempdir().unwrap();
        let visits = VisitCounter::open(home.path());
        let all = (0..20).map(|_| visits.count());
        futures_util::future::join_all(all).await;
        assert_eq!(visits.count().await.unwrap(), 21);
    }

    #[tokio::test]
    async fn a_file_without_a_number_counts_as_zero() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".berth")).unwrap();
        std::fs::write(home.path().join(".berth/visits"), "many").unwrap();
        assert_eq!(VisitCounter::open(home.path()).count().await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_home_that_cannot_be_written_is_an_error() {
        let visits = VisitCounter::open(Path::new("/proc/nowhere"));
        assert!(visits.count().await.is_err());
    }
}
