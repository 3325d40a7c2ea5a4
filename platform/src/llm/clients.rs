//! HTTP clients, one for each thread that asks: a connection wakes the thread that made it, so that calls which share
//! connections across threads would wait for one another's.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::{self, ThreadId};

use super::timeouts::Patience;

/// The clients of one door. Cheap to clone.
#[derive(Clone)]
pub struct Clients {
    patience: Patience,
    of_threads: Arc<RwLock<HashMap<ThreadId, reqwest::Client>>>,
}

impl Clients {
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, of_threads: Arc::default() }
    }

    /// This thread's.
    #[must_use]
    pub fn here(&self) -> reqwest::Client {
        let thread = thread::current().id();
        if let Some(client) = self.of_threads.read().unwrap_or_else(PoisonError::into_inner).get(&thread) {
            return client.clone();
        }
        let mut clients = self.of_threads.write().unwrap_or_else(PoisonError::into_inner);
        clients.entry(thread).or_insert_with(|| client(self.patience)).clone()
    }
}

fn client(patience: Patience) -> reqwest::Client {
    reqwest::Client::builder()
        .tls_backend_preconfigured(super::providers::tls())
        .connect_timeout(patience.connect)
        .read_timeout(patience.between_bytes)
        .tcp_nodelay(true)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("the TLS settings are complete")
}
