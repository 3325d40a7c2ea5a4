//! Stories: what people and programs experience of the whole platform, told from outside.

#[path = "stories/calls.rs"]
mod calls;
#[path = "stories/llm.rs"]
mod llm;
#[path = "stories/pages/mod.rs"]
mod pages;
#[path = "stories/quota.rs"]
mod quota;
