//! What Berth promises, told as stories: one binary, one module per noun.

mod stories {
    mod containers;
}
