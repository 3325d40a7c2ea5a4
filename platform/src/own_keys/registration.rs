//! Registration of own keys: the deletion of an account's keys, and a key that is tried against `BERTH_SECRET`.

use async_trait::async_trait;
use berth_ground::error::Result;

use super::OwnKeys;
use crate::db::Tx;
use crate::modules::{DeletedAccount, Module, SealedSample};

#[async_trait]
impl Module for OwnKeys {
    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        self.forget_in(tx, account.id).await
    }

    fn forget_account(&self, account: &DeletedAccount) {
        self.forget(account.id);
    }

    async fn try_sealed(&self) -> Result<SealedSample> {
        Ok(self.try_oldest_key())
    }
}
