//! HTTP below the layers that answer it: the server's accept loop, our hosts, cookies, the peer behind Caddy,
//! hop-by-hop headers.

pub mod cookies;
pub mod hop_by_hop;
pub mod hosts;
pub mod peer;
pub mod server;
