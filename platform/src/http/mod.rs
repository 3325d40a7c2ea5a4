//! What the HTTP layers share: problem responses (RFC 9457), content negotiation, static assets, security headers, rendered
//! pages, live updates as server-sent events, and formatting for people. It stands above the modules and below the layers,
//! so that no layer needs another.

pub mod accept;
pub mod alarm_view;
pub mod assets;
pub mod format;
pub mod headers;
pub mod list;
pub mod live;
pub mod page;
pub mod problem;
