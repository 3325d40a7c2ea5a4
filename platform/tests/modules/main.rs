//! The modules on fakes: what each promises, without a listener in front of it; and the rules of the architecture.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where it stopped")]

mod accounts;
mod architecture;
mod deployment;
mod doctor;
mod migrations;
mod pages;
mod registration;
mod scripts;
mod secret_check;
