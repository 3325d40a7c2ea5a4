//! Intake limits: the concurrent requests of one instance, and the memory of all request bodies together.
//!
//! Both are checked before a body is read. The budget cannot replace them, because requests that cost nothing, such as
//! token counts, take memory as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::proxy_error::ProxyError;
use crate::db::InstanceId;

/// The largest request body, in bytes: the providers' own limit.
const MAX_BODY: usize = 32 * 1024 * 1024;
/// How long a request body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// The memory for all buffered bodies, in bytes. Reading a body takes up to twice its size for a moment.
const MAX_BODY_MEMORY: usize = 256 * 1024 * 1024;
/// Request slots beyond the account's concurrent calls: for token counts and model lists meanwhile, and so that a
/// surplus call gets the quota's own refusal.
const EXTRA_SLOTS: u64 = 2;

/// The limits and their current use. Cheap to clone.
#[derive(Clone)]
pub struct IntakeLimits {
    active: Arc<Mutex<HashMap<InstanceId, u64>>>,
    max_active: u64,
    body_memory: Arc<Semaphore>,
}

/// The slot of one request, released on drop.
pub struct RequestSlot {
    limits: IntakeLimits,
    instance: InstanceId,
}

/// A request body in memory.
pub struct BufferedBody {
    pub bytes: Bytes,
    /// The body's share of the memory limit, held as long as `bytes`.
    pub memory: OwnedSemaphorePermit,
}

impl IntakeLimits {
    /// `calls_at_once` is the number of concurrent calls that an account may make.
    #[must_use]
    pub fn new(calls_at_once: u32) -> Self {
        let max_active = u64::from(calls_at_once) + EXTRA_SLOTS;
        Self { active: Arc::default(), max_active, body_memory: Arc::new(Semaphore::new(MAX_BODY_MEMORY)) }
    }

    /// # Errors
    /// `Busy` when `instance` has as many requests in flight as it may.
    pub fn claim_slot(&self, instance: InstanceId) -> Result<RequestSlot, ProxyError> {
        let mut active = self.active.lock().unwrap_or_else(PoisonError::into_inner);
        let count = active.entry(instance).or_default();
        if *count >= self.max_active {
            return Err(ProxyError::Busy);
        }
        *count += 1;
        Ok(RequestSlot { limits: self.clone(), instance })
    }

    /// Reads `body` to its end.
    ///
    /// # Errors
    /// `Busy` when the memory limit is reached; `BodyTooLarge`; `BodyBroken` when the body is incomplete or too slow.
    pub async fn read_body(&self, headers: &HeaderMap, body: Body) -> Result<BufferedBody, ProxyError> {
        tokio::time::timeout(BODY_TIMEOUT, self.buffer(headers, body)).await.map_err(|_| ProxyError::BodyBroken)?
    }

    async fn buffer(&self, headers: &HeaderMap, body: Body) -> Result<BufferedBody, ProxyError> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let announced: usize = announced.unwrap_or(0);
        if announced > MAX_BODY {
            return Err(ProxyError::BodyTooLarge);
        }
        // The announced size is reserved at once. A reservation per chunk could fail in the middle of a long upload.
        let mut memory = self.reserve_memory(announced)?;
        let mut bytes = BytesMut::with_capacity(announced);
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| ProxyError::BodyBroken)?;
            let size = bytes.len() + chunk.len();
            if size > MAX_BODY {
                return Err(ProxyError::BodyTooLarge);
            }
            // Only a body without a content length grows beyond its reservation.
            if size > memory.num_permits() {
                memory.merge(self.reserve_memory(size - memory.num_permits())?);
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(BufferedBody { bytes: bytes.freeze(), memory })
    }

    /// Reserves memory for a body of `bytes`.
    ///
    /// # Errors
    /// `Busy` when the memory limit is reached.
    pub fn reserve_memory(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ProxyError> {
        let bytes = u32::try_from(bytes).map_err(|_| ProxyError::BodyTooLarge)?;
        // Waiting for memory instead would queue slow uploads behind each other (head-of-line blocking).
        self.body_memory.clone().try_acquire_many_owned(bytes).map_err(|_| ProxyError::Busy)
    }
}

impl Drop for RequestSlot {
    fn drop(&mut self) {
        let mut active = self.limits.active.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = active.get_mut(&self.instance) {
            *count -= 1;
            // An entry of zero would stay in the map as long as the process runs.
            if *count == 0 {
                active.remove(&self.instance);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use uuid::Uuid;

    use super::*;

    #[test]
    fn an_instance_has_a_few_more_slots_than_calls_and_each_instance_its_own() {
        let limits = IntakeLimits::new(1);
        let (a, b) = (InstanceId(Uuid::from_u128(1)), InstanceId(Uuid::from_u128(2)));
        let mut slots: Vec<_> = (0..3).map(|_| limits.claim_slot(a).ok().unwrap()).collect();
        assert!(matches!(limits.claim_slot(a), Err(ProxyError::Busy)));
        assert!(limits.claim_slot(b).is_ok());
        slots.pop();
        assert!(limits.claim_slot(a).is_ok());
    }

    #[tokio::test]
    async fn all_bodies_share_one_memory_limit_with_or_without_a_content_length() {
        let limits = IntakeLimits::new(1);
        let mut announcing = HeaderMap::new();
        announcing.insert(header::CONTENT_LENGTH, MAX_BODY.into());
        let fill = || limits.read_body(&announcing, Body::empty());
        let mut bodies = Vec::new();
        for _ in 0..8 {
            bodies.push(fill().await.ok().unwrap());
        }
        assert!(matches!(fill().await, Err(ProxyError::Busy)));
        let growing = || Body::from_stream(stream::iter([Ok::<_, std::io::Error>("chunk")]));
        assert!(matches!(limits.read_body(&HeaderMap::new(), growing()).await, Err(ProxyError::Busy)));
        bodies.pop();
        assert_eq!(limits.read_body(&HeaderMap::new(), growing()).await.ok().unwrap().bytes, "chunk");
        announcing.insert(header::CONTENT_LENGTH, (MAX_BODY + 1).into());
        assert!(matches!(limits.read_body(&announcing, Body::empty()).await, Err(ProxyError::BodyTooLarge)));
    }
}
