//! What the edge is to reach, and whether it did.

use std::fmt::Write as _;

use super::figures::Figures;

struct Aim {
    what: &'static str,
    reached: fn(&Figures) -> Option<f64>,
    bound: Bound,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

const AIMS: [Aim; 9] = [
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

const fn at_least(what: &'static str, bound: f64, reached: fn(&Figures) -> Option<f64>) -> Aim {
    Aim { what, reached, bound: Bound::AtLeast(bound) }
}

const fn at_most(what: &'static str, bound: f64, reached: fn(&Figures) -> Option<f64>) -> Aim {
    Aim { what, reached, bound: Bound::AtMost(bound) }
}

/// A line for each aim whose figures were measured.
pub fn table(figures: &Figures) -> String {
    let mut text = String::new();
    for Aim { what, reached, bound } in AIMS {
        let Some(reached) = reached(figures) else { continue };
        if text.is_empty() {
            let _ = writeln!(text, "{:<48}{:>10}{:>12}", "aims", "aim", "reached");
        }
        let (sign, bound, kept) = match bound {
            Bound::AtLeast(bound) => (">=", bound, reached >= bound),
            Bound::AtMost(bound) => ("<=", bound, reached <= bound),
        };
        let missed = if kept { "" } else { "   missed" };
        let _ = writeln!(text, "{what:<48}{:>10}{reached:>12.2}{missed}", format!("{sign} {bound}"));
    }
    text
}
