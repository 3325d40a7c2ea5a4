//! What Berth promises, told as stories: one binary, one module per noun.

#![expect(clippy::unwrap_used, reason = "a story that cannot go on says where it stopped")]

mod stories {
    mod containers;
}
