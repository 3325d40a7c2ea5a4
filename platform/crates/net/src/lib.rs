//! HTTP building blocks below the HTTP layers: the server's accept loop, virtual hosts, cookies, the peer behind Caddy,
//! hop-by-hop headers.

pub mod cookies;
pub mod hop_by_hop;
pub mod hosts;
pub mod peer;
pub mod server;
