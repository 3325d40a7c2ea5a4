//! The webhook log: the ids of received deliveries, in the volume, which make at-least-once delivery idempotent.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::fs;
use tokio::io::AsyncWriteExt;
use tokio::sync::Mutex;

/// The most remembered deliveries. A delivery is repeated only before the next one of its path, so a hundred ids are
/// enough for the eight paths and the alarms.
const MAX_RECORDS: usize = 100;

/// A received webhook, without headers and body.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub struct WebhookRecord {
    /// `X-Berth-Delivery`, the idempotency key: equal for every attempt.
    pub id: String,
    /// `POST /hooks/github`, or the name of the alarm that rang.
    pub what: String,
    pub bytes: usize,
    /// Unix time in seconds.
    pub at: u64,
}

/// The received webhooks in a file of the volume, newest first. A power cut leaves the old file or the new one.
pub struct WebhookLog {
    file: PathBuf,
    /// The file of earlier versions of this program. It is read while `file` is absent: a delivery that the version
    /// before an upgrade has recorded may be attempted again after it.
    former_file: PathBuf,
    known: Mutex<Option<VecDeque<WebhookRecord>>>,
}

impl WebhookLog {
    pub fn open(home: &Path) -> Self {
        let folder = home.join(".berth");
        Self { file: folder.join("webhooks"), former_file: folder.join("letters"), known: Mutex::new(None) }
    }

    /// Records a delivery, unless its id is known. Only afterwards may it be acknowledged with 2xx: the platform then
    /// never sends it again.
    ///
    /// # Errors
    /// When the volume cannot be read or written; the delivery must then be refused, so that it is retried.
    pub async fn record(&self, webhook: WebhookRecord) -> io::Result<()> {
        // The lock is held over the write: after a timeout, the next attempt of a delivery may arrive while this one is
        // being recorded.
        let mut known = self.known.lock().await;
        let mut webhooks = self.read(&known).await?;
        if !webhooks.iter().any(|other| other.id == webhook.id) {
            webhooks.push_front(webhook);
            webhooks.truncate(MAX_RECORDS);
            self.write(&webhooks).await?;
        }
        *known = Some(webhooks);
        Ok(())
    }

    /// The newest records, at most `limit`.
    ///
    /// # Errors
    /// When the volume cannot be read.
    pub async fn newest(&self, limit: usize) -> io::Result<Vec<WebhookRecord>> {
        let mut known = self.known.lock().await;
        let webhooks = self.read(&known).await?;
        let newest = webhooks.iter().take(limit).cloned().collect();
        *known = Some(webhooks);
        Ok(newest)
    }

    async fn read(&self, known: &Option<VecDeque<WebhookRecord>>) -> io::Result<VecDeque<WebhookRecord>> {
        if let Some(webhooks) = known {
            return Ok(webhooks.clone());
        }
        for file in [&self.file, &self.former_file] {
            match fs::read(file).await {
                // The owner may edit every file of the volume: an unparsable one counts as empty.
                Ok(text) => return Ok(serde_json::from_slice(&text).unwrap_or_default()),
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(VecDeque::new())
    }

    async fn write(&self, webhooks: &VecDeque<WebhookRecord>) -> io::Result<()> {
        let folder = self.file.parent().expect("the file is in a folder of $HOME");
        fs::create_dir_all(folder).await?;
        let new = self.file.with_extension("new");
        let mut file = fs::File::create(&new).await?;
        file.write_all(&serde_json::to_vec(webhooks)?).await?;
        file.sync_all().await?;
        // Atomic replacement: fsync the content, rename, fsync the folder.
        fs::rename(&new, &self.file).await?;
        fs::File::open(folder).await?.sync_all().await?;
        // From now on the former file is never read. It does no harm where it cannot be removed.
        let _ = fs::remove_file(&self.former_file).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn webhook(id: usize) -> WebhookRecord {
        WebhookRecord { id: id.to_string(), what: "POST /hooks/github".into(), bytes: 3, at: id as u64 }
    }

    #[tokio::test]
    async fn a_delivery_that_comes_twice_is_recorded_once_also_after_a_restart() {
        let home = tempfile::tempdir().unwrap();
        let webhooks = WebhookLog::open(home.path());
        for id in [1, 2, 1] {
            webhooks.record(webhook(id)).await.unwrap();
        }
        let again = WebhookLog::open(home.path());
        again.record(webhook(2)).await.unwrap();
        assert_eq!(again.newest(9).await.unwrap(), [webhook(2), webhook(1)]);
    }

    #[tokio::test]
    async fn the_records_of_the_version_before_an_upgrade_are_taken_over() {
        let home = tempfile::tempdir().unwrap();
        let former = home.path().join(".berth/letters");
        std::fs::create_dir(home.path().join(".berth")).unwrap();
        let records = r#"[{"id":"2","what":"POST /hooks/github","bytes":3,"at":2},
                          {"id":"1","what":"POST /hooks/github","bytes":3,"at":1}]"#;
        std::fs::write(&former, records).unwrap();
        assert_eq!(WebhookLog::open(home.path()).newest(9).await.unwrap(), [webhook(2), webhook(1)]);
        let webhooks = WebhookLog::open(home.path());
        for id in [2, 3, 1] {
            webhooks.record(webhook(id)).await.unwrap();
        }
        assert!(!former.exists(), "its records are in the new file");
        let again = WebhookLog::open(home.path());
        again.record(webhook(1)).await.unwrap();
        assert_eq!(again.newest(9).await.unwrap(), [webhook(3), webhook(2), webhook(1)]);
    }

    #[tokio::test]
    async fn records_are_limited_and_a_broken_file_counts_as_empty() {
        let home = tempfile::tempdir().unwrap();
        std::fs::create_dir(home.path().join(".berth")).unwrap();
        std::fs::write(home.path().join(".berth/webhooks"), "no list").unwrap();
        let webhooks = WebhookLog::open(home.path());
        for id in 0..MAX_RECORDS + 5 {
            webhooks.record(webhook(id)).await.unwrap();
        }
        assert_eq!(webhooks.newest(usize::MAX).await.unwrap().len(), MAX_RECORDS);
        assert_eq!(webhooks.newest(1).await.unwrap(), [webhook(MAX_RECORDS + 4)]);
    }

    #[tokio::test]
    async fn a_home_that_cannot_be_written_records_nothing() {
        assert!(WebhookLog::open(Path::new("/proc/nowhere")).record(webhook(1)).await.is_err());
    }
}
