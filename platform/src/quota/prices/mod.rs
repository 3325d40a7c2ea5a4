//! Prices: what models cost by which table, what a call costs at most by that, and what it did cost.

pub(super) mod book;
pub(super) mod catalogue;
pub(super) mod rules;
pub(super) mod tables;
pub(super) mod tariffs;
pub(super) mod unknown_models;
