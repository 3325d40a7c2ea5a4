//! Containers: one contract for the fake, the Engine and the provisioner's socket, and what only a real Engine shows.

mod contract;
mod engine;
mod firewall;
mod full_disks;
mod hostile;
mod isolation;
mod lab;
mod provisioner_socket;
mod reuse;
mod two_processes;
mod volumes;
