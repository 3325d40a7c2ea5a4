//! Stories: what people and programs experience of Berth, one module per noun.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on stops, and says where")]

#[path = "stories/accounts/mod.rs"]
mod accounts;
#[path = "stories/harness/mod.rs"]
mod harness;
