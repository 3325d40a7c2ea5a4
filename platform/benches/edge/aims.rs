//! The performance targets of the edge.

use super::aim::{Aim, at_least, at_most};

pub const AIMS: [Aim; 9] = [
    at_least("small bodies, beside nginx", 1.0, |f| f.beside("edge.rps", "berth", "nginx")),
    at_least("small bodies, beside Caddy", 2.0, |f| f.beside("edge.rps", "berth", "caddy")),
    at_least("small bodies, beside configurable-http-proxy", 4.0, |f| f.beside("edge.rps", "berth", "chp")),
    at_least("1 MiB, beside the better of nginx and Caddy", 1.2, |f| {
        let [nginx, caddy] = ["nginx", "caddy"].map(|peer| f.beside("edge.big.rps", "berth", peer));
        Some(nginx?.min(caddy?))
    }),
    at_most("microseconds added to a request alone, p50", 150.0, |f| f.middle("edge.added_p50_us", "berth")),
    at_least("through Caddy, beside Caddy straight", 0.8, |f| {
        f.beside("edge.through_caddy.rps", "caddy+berth", "caddy")
    }),
    at_least("messages on WebSockets, beside nginx", 1.0, |f| f.beside("edge.ws.rps", "berth", "nginx")),
    at_most("KiB for each idle WebSocket", 40.0, |f| f.only("edge.ws_idle_kib")),
    at_most("milliseconds for a question of Caddy's, p99", 5.0, |f| f.only("edge.ask_p99_ms")),
];
