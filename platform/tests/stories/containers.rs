//! Containers: one contract for the fake, the Engine and the provisioner's socket, and what only a real Engine shows.

pub mod bench;
mod contract;
mod door;
mod engine;
mod full_disks;
mod hostile;
mod reuse;
mod firewall;
mod isolation;
mod lab;
mod two_processes;
mod volumes;
