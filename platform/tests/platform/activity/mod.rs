//! Activity: which work keeps an instance awake, which does not, and how the awake report records it.

mod calls;
mod ledger;
mod scenarios;
mod scene;
mod under_way;
