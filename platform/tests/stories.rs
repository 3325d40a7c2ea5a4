//! Stories: what people and programs experience of Berth, one module per noun.

#[path = "stories/accounts/mod.rs"]
mod accounts;
#[path = "stories/harness/mod.rs"]
mod harness;
