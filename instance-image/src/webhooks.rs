//! Letters that Berth's mailbox delivered: each is taken once, however often it comes, and the last few are listed.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

/// How many are remembered: a letter comes again only while those behind it on its path wait.
const MOST: usize = 100;

/// A letter, without what is in it.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct Letter {
    /// `X-Berth-Delivery`: the same however often it comes.
    pub id: String,
    /// `POST /hooks/github`, or which alarm rang.
    pub what: String,
    pub bytes: usize,
    /// In Unix seconds.
    pub at: u64,
}

/// The letters in a file of the volume, newest first. A power cut leaves the old file or the new one.
pub struct Letters {
    file: PathBuf,
    known: Mutex<Option<VecDeque<Letter>>>,
}

impl Letters {
    pub fn open(home: &Path) -> Self {
        Self { file: home.join(".berth/letters"), known: Mutex::new(None) }
    }

    /// Takes a letter in, unless it was before. Say that it was taken only after this.
    ///
    /// # Errors
    /// When the volume cannot be read or written: then the letter had better come again.
    pub async fn take(&self, letter: Letter) -> io::Result<()> {
        let mut known = self.known.lock().await;
        let mut letters = self.read(&known).await?;
        if !letters.iter().any(|other| other.id == letter.id) {
            letters.push_front(letter);
            letters.truncate(MOST);
            self.write(&letters).await?;
        }
        *known = Some(letters);
        Ok(())
    }

    /// The newest `most`.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub async fn newest(&self, most: usize) -> io::Result<Vec<Letter>> {
        let mut known = self.known.lock().await;
        let letters = self.read(&known).await?;
        let newest = letters.iter().take(most).cloned().collect();
        *known = Some(letters);
        Ok(newest)
    }

    async fn read(&self, known: &Option<VecDeque<Letter>>) -> io::Result<VecDeque<Letter>> {
        if let Some(letters) = known {
            return Ok(letters.clone());
        }
        match fs::read(&self.file).await {
            // The owner may edit anything in his volume; what is no list starts again.
            Ok(text) => Ok(serde_json::from_slice(&text).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(VecDeque::new()),
            Err(e) => Err(e),
        }
    }

    async fn write(&self, letters: &VecDeque<Letter>) -> io::Result<()> {
        let folder = self.file.parent().expect("the file is in a folder of $HOME");
        fs::create_dir_all(folder).await?;
        let new = self.file.with_extension("new");
        let mut file = fs::File::create(&new).await?;
        file.write_all(&serde_json::to_vec(letters)?).await?;
        file.sync_all().await?;
        fs::rename(&new, &self.file).await?;
        fs::File::open(folder).await?.sync_all().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(id: usize) -> Letter {
        Letter { id: id.to_string(), what: "POST /hooks/github".into(), bytes: 3, at: id as u64 }
    }

    #[tokio::test]
    async fn a_letter_that_comes_twice_is_taken_once_also_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let letters = Letters::open(home.path());
        for id in [1, 2, 1] {
            letters.take(letter(id)).await.unwrap();
        }
        let again = Letters::open(home.path());
        again.take(letter(2)).await.unwrap();
        assert_eq!(again.newest(9).await.unwrap(), [letter(2), letter(1)]);
    }

    #[tokio::test]
    async fn only_so_many_are_kept_and_a_broken_file_starts_again() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".berth")).unwrap();
        std::fs::write(home.path().join(".berth/letters"), "no list").unwrap();
        let letters = Letters::open(home.path());
        for id in 0..MOST + 5 {
            letters.take(letter(id)).await.unwrap();
        }
        assert_eq!(letters.newest(usize::MAX).await.unwrap().len(), MOST);
        assert_eq!(letters.newest(1).await.unwrap(), [letter(MOST + 4)]);
    }

    #[tokio::test]
    async fn a_home_that_cannot_be_written_takes_nothing() {
        assert!(Letters::open(Path::new("/proc/nowhere")).take(letter(1)).await.is_err());
    }
}
