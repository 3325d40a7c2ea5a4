//! Shared HTTP building blocks: problem responses (RFC 9457), content negotiation, static assets, security headers,
//! rendered pages, server-sent events, instance tokens, and formatting for people. The folder is above the modules and
//! below the HTTP layers, so that no layer imports another.

pub mod accept;
pub mod alarm_view;
pub mod assets;
pub mod format;
pub mod headers;
pub mod instance_token;
pub mod list;
pub mod live;
pub mod page;
pub mod prefetch;
pub mod problem;
