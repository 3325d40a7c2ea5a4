//! Registration of the mailbox: how many letters wait or failed; the paths and letters of a deleted account's instance go.

use async_trait::async_trait;

use super::Mailbox;
use crate::clock::Timestamp;
use crate::db::Tx;
use crate::error::Result;
use crate::modules::{DeletedAccount, GaugeFamily, Module};

#[async_trait]
impl Module for Mailbox {
    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        let Some(instance) = account.instance else { return Ok(()) };
        self.forget_in(tx, instance).await
    }

    fn forget_account(&self, account: &DeletedAccount) {
        if let Some(instance) = account.instance {
            self.forget(instance);
        }
    }

    fn gauges(&self, _: Timestamp) -> Vec<GaugeFamily> {
        let counts = self.counts_of_all();
        let samples = [("waiting", counts.waiting), ("failed", counts.failed)]
            .map(|(state, letters)| (state.to_owned(), i64::try_from(letters).unwrap_or(i64::MAX)));
        vec![GaugeFamily::by_label("letters", "Letters in the mailbox, by how they stand", "state", samples)]
    }
}
