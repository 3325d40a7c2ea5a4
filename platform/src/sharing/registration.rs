//! Registration of sharing: the deletion of an account's shares, and of shares that name the account as guest.

use async_trait::async_trait;
use berth_ground::error::Result;

use super::Sharing;
use crate::db::Tx;
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
