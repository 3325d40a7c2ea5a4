//! Performance targets of a benchmark, and whether they were met.

use std::fmt::Write as _;

use super::figures::Figures;

/// A target for a figure that is computed from the measured ones; `None` if those were not measured.
pub struct Aim {
    what: &'static str,
    reached: fn(&Figures) -> Option<f64>,
    bound: Bound,
}

enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

pub const fn at_least(what: &'static str, bound: f64, reached: fn(&Figures) -> Option<f64>) -> Aim {
    Aim { what, reached, bound: Bound::AtLeast(bound) }
}

pub const fn at_most(what: &'static str, bound: f64, reached: fn(&Figures) -> Option<f64>) -> Aim {
    Aim { what, reached, bound: Bound::AtMost(bound) }
}

/// A table with a line for each target that was measured.
pub fn table(aims: &[Aim], figures: &Figures) -> String {
    let mut text = String::new();
    for Aim { what, reached, bound } in aims {
        let Some(reached) = reached(figures) else { continue };
        if text.is_empty() {
            let _ = writeln!(text, "{:<48}{:>10}{:>12}", "aims", "aim", "reached");
        }
        let (sign, bound, kept) = match *bound {
            Bound::AtLeast(bound) => (">=", bound, reached >= bound),
            Bound::AtMost(bound) => ("<=", bound, reached <= bound),
        };
        let missed = if kept { "" } else { "   missed" };
        let _ = writeln!(text, "{what:<48}{:>10}{reached:>12.2}{missed}", format!("{sign} {bound}"));
    }
    text
}
