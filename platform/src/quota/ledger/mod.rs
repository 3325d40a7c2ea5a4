//! The ledger: holds and settlements in a write-ahead log, receipts in a hash chain, and corrections of them.

pub(super) mod chain;
pub(super) mod corrections;
pub(super) mod hold;
pub(super) mod journal;
pub(super) mod own_key_calls;
pub(super) mod recovery;
pub(super) mod repricing;
pub(super) mod writer;
