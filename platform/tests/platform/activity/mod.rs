//! What keeps an instance awake and what does not, and whether the ledger says so.

mod calls;
mod ledger;
mod scene;
mod twelve;
mod under_way;
