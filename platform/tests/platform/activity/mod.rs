//! What keeps an instance awake and what does not, and whether the ledger says so.

mod calls;
mod ledger;
mod scenarios;
mod scene;
mod under_way;
