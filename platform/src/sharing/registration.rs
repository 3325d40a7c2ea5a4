//! Registration of sharing: a deleted account's shares go, those it made and those made to it by name.

use async_trait::async_trait;

use super::Sharing;
use crate::db::Tx;
use crate::error::Result;
use crate::modules::{DeletedAccount, Module};

#[async_trait]
impl Module for Sharing {
    async fn delete_account_rows(&self, tx: &Tx, account: &DeletedAccount) -> Result<()> {
        self.forget_in(tx, account.instance, &account.handle).await
    }

    fn forget_account(&self, account: &DeletedAccount) {
        self.forget(account.instance, &account.handle);
    }
}
