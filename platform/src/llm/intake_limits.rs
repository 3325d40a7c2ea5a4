//! How much may be in the door at once: requests of one instance, and bytes of all bodies together. Both are asked
//! for before a body is read, because what is charged nothing takes memory as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, header};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::proxy_error::Problem;
use crate::db::InstanceId;

/// The providers' own limit for a request body.
const LARGEST_BODY: usize = 32 * 1024 * 1024;
/// How long a request body may take to arrive.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// Of all bodies that are in memory. Reading one takes up to twice its size for a moment.
const MOST_BYTES: usize = 256 * 1024 * 1024;
/// Beyond the calls an account may have in flight: for counting tokens and listing models meanwhile, and for being
/// told that there are too many.
const MORE_REQUESTS: u64 = 2;

/// The door's room. Cheap to clone.
#[derive(Clone)]
pub struct Doorway {
    inside: Arc<Mutex<HashMap<InstanceId, u64>>>,
    most_inside: u64,
    bytes: Arc<Semaphore>,
}

/// One request's place; free again when dropped.
pub struct Place {
    doorway: Doorway,
    instance: InstanceId,
}

/// A body that was taken in, and its share of the memory, to be kept as long as the body is.
pub struct Taken {
    pub body: Bytes,
    pub room: OwnedSemaphorePermit,
}

impl Doorway {
    #[must_use]
    pub fn new(calls_at_once: u32) -> Self {
        let most_inside = u64::from(calls_at_once) + MORE_REQUESTS;
        Self { inside: Arc::default(), most_inside, bytes: Arc::new(Semaphore::new(MOST_BYTES)) }
    }

    /// # Errors
    /// `Busy` when as many requests of `instance` are inside as may be.
    pub fn enter(&self, instance: InstanceId) -> Result<Place, Problem> {
        let mut inside = self.inside.lock().unwrap_or_else(PoisonError::into_inner);
        let count = inside.entry(instance).or_default();
        if *count >= self.most_inside {
            return Err(Problem::Busy);
        }
        *count += 1;
        Ok(Place { doorway: self.clone(), instance })
    }

    /// Reads `body` to its end.
    ///
    /// # Errors
    /// `Busy` when there is no memory for it now; when it is too large, or does not come whole.
    pub async fn take_in(&self, headers: &HeaderMap, body: Body) -> Result<Taken, Problem> {
        tokio::time::timeout(BODY_PATIENCE, self.read(headers, body)).await.map_err(|_| Problem::BodyBroken)?
    }

    async fn read(&self, headers: &HeaderMap, body: Body) -> Result<Taken, Problem> {
        let announced = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let announced: usize = announced.unwrap_or(0);
        if announced > LARGEST_BODY {
            return Err(Problem::BodyTooLarge);
        }
        let mut room = self.room(announced)?;
        let mut taken = BytesMut::with_capacity(announced);
        let mut chunks = body.into_data_stream();
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk.map_err(|_| Problem::BodyBroken)?;
            let size = taken.len() + chunk.len();
            if size > LARGEST_BODY {
                return Err(Problem::BodyTooLarge);
            }
            if size > room.num_permits() {
                room.merge(self.room(size - room.num_permits())?);
            }
            taken.extend_from_slice(&chunk);
        }
        Ok(Taken { body: taken.freeze(), room })
    }

    /// Memory for a body of so many bytes.
    ///
    /// # Errors
    /// `Busy` when there is none now.
    pub fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let bytes = u32::try_from(bytes).map_err(|_| Problem::BodyTooLarge)?;
        self.bytes.clone().try_acquire_many_owned(bytes).map_err(|_| Problem::Busy)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.doorway.inside.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = inside.get_mut(&self.instance) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.instance);
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
    fn an_instance_has_a_few_more_places_than_calls_and_each_its_own() {
        let doorway = Doorway::new(1);
        let (a, b) = (InstanceId(Uuid::from_u128(1)), InstanceId(Uuid::from_u128(2)));
        let mut places: Vec<_> = (0..3).map(|_| doorway.enter(a).ok().unwrap()).collect();
        assert!(matches!(doorway.enter(a), Err(Problem::Busy)));
        assert!(doorway.enter(b).is_ok());
        places.pop();
        assert!(doorway.enter(a).is_ok());
    }

    #[tokio::test]
    async fn all_bodies_share_one_memory_whether_they_name_their_size_or_not() {
        let doorway = Doorway::new(1);
        let mut announcing = HeaderMap::new();
        announcing.insert(header::CONTENT_LENGTH, LARGEST_BODY.into());
        let fill = || doorway.take_in(&announcing, Body::empty());
        let mut taken = Vec::new();
        for _ in 0..8 {
            taken.push(fill().await.ok().unwrap());
        }
        assert!(matches!(fill().await, Err(Problem::Busy)));
        let growing = || Body::from_stream(stream::iter([Ok::<_, std::io::Error>("chunk")]));
        assert!(matches!(doorway.take_in(&HeaderMap::new(), growing()).await, Err(Problem::Busy)));
        taken.pop();
        assert_eq!(doorway.take_in(&HeaderMap::new(), growing()).await.ok().unwrap().body, "chunk");
        announcing.insert(header::CONTENT_LENGTH, (LARGEST_BODY + 1).into());
        assert!(matches!(doorway.take_in(&announcing, Body::empty()).await, Err(Problem::BodyTooLarge)));
    }
}
