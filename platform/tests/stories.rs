//! Stories: what people and programs experience of the whole platform, told from outside.

#[path = "stories/pages/mod.rs"]
mod pages;
