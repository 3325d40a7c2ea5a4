//! Stories: what people and programs experience of the whole platform, told from outside.

mod pages;
