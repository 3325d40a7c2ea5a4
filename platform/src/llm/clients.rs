//! HTTP clients: one connection pool per worker thread.
//!
//! A connection's task wakes the thread that opened it. In one pool for all threads, calls that share a connection
//! across threads would wait for each other's wake-ups.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use super::timeouts::ProxyTimeouts;

/// The clients of one proxy. Cheap to clone.
#[derive(Clone)]
pub struct ThreadClients {
    timeouts: ProxyTimeouts,
    by_thread: Arc<RwLock<HashMap<ThreadId, reqwest::Client>>>,
}

impl ThreadClients {
    #[must_use]
    pub fn new(timeouts: ProxyTimeouts) -> Self {
        Self { timeouts, by_thread: Arc::default() }
    }

    /// The client of the current thread.
    #[must_use]
    pub fn of_this_thread(&self) -> reqwest::Client {
        let thread = thread::current().id();
        if let Some(client) = self.by_thread.read().unwrap_or_else(PoisonError::into_inner).get(&thread) {
            return client.clone();
        }
        // Between the two locks no other thread can insert this key, because the key is this thread.
        let mut clients = self.by_thread.write().unwrap_or_else(PoisonError::into_inner);
        clients.entry(thread).or_insert_with(|| client(self.timeouts)).clone()
    }
}

fn client(timeouts: ProxyTimeouts) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls())
        .connect_timeout(timeouts.connect)
        .read_timeout(timeouts.between_bytes)
        // Nagle's algorithm would hold back the last segment of a request until the previous one is acknowledged.
        .tcp_nodelay(true)
        // A redirect would send the platform's key to an address that the provider's response chooses.
        .redirect(reqwest::redirect::Policy::none())
        // Nor may a proxy environment variable send the keys through another host.
        .no_proxy()
        .build()
        .expect("the TLS settings are complete")
}

fn tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config
}
