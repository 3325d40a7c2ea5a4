//! Clients of the platform: raw HTTP/1.1, a browser's session without a browser, and a browser's passkeys.

pub mod http1_client;
pub mod passkey_browser;
pub mod web_client;
