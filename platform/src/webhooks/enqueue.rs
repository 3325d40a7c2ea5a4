//! Enqueueing deliveries: requests from outside, the platform's own, and those of alarms.

use std::sync::atomic::Ordering;

use berth_ground::error::{Error, Result};
use bytes::Bytes;

use super::rules::RETRY_WINDOW;
use super::{DeliveryId, DeliveryState, WebhookDelivery, WebhookRequest, Webhooks, store};
use crate::db::{InstanceId, Tx};

/// Why a webhook request was not enqueued.
#[derive(Debug)]
pub enum IntakeError {
    /// The instance's inbox, or the space for all inboxes, is full; the sentence says which.
    InboxFull(&'static str),
    /// The database failed.
    Storage(Error),
}

/// The effect of enqueueing an alarm, to be passed to [`Webhooks::alarm_committed`] after the commit.
#[must_use = "the counts in memory stay wrong until the commit is reported"]
#[derive(Debug, Default)]
pub struct AlarmDelivery {
    is_new: bool,
    /// Dead letters of the same alarm that the new delivery replaced.
    replaced: u64,
}

/// A delivery that was written in the caller's transaction, with its reserved space (an RAII guard).
#[must_use = "dropping it releases the reserved space"]
pub struct UncommittedDelivery {
    webhooks: Webhooks,
    instance: InstanceId,
    bytes: u64,
    is_committed: bool,
}

impl UncommittedDelivery {
    /// Keeps the reserved space and makes the delivery due. Must be called after the commit.
    pub fn committed(mut self) {
        self.is_committed = true;
        self.webhooks.schedule(self.instance, self.webhooks.0.clock.now());
    }
}

impl Drop for UncommittedDelivery {
    fn drop(&mut self) {
        // A rollback has no hook: a transaction that ends without a commit drops this guard.
        if !self.is_committed {
            self.webhooks.inboxes().release(self.instance, DeliveryState::Waiting, self.bytes);
        }
    }
}

impl Webhooks {
    /// Enqueues a request. When this returns, the request is durable and will be delivered.
    ///
    /// # Errors
    /// When the inbox is full, or the database fails.
    pub async fn enqueue(
        &self,
        instance: InstanceId,
        request: WebhookRequest,
    ) -> std::result::Result<DeliveryId, IntakeError> {
        let delivery = self.delivery(instance, request);
        let bytes = delivery.bytes();
        // TOCTOU: space is reserved before the insert. Between a mere check and an insert that takes milliseconds,
        // every concurrent sender would pass the same check.
        self.inboxes().reserve(instance, bytes).map_err(IntakeError::InboxFull)?;
        let written = async {
            let tx = self.0.db.begin().await?;
            self.write(&tx, &delivery).await?;
            tx.commit().await
        };
        if let Err(error) = written.await {
            self.inboxes().release(instance, DeliveryState::Waiting, bytes);
            return Err(IntakeError::Storage(error));
        }
        self.schedule(instance, self.0.clock.now());
        Ok(delivery.id)
    }

    /// Enqueues a request of the platform's own in the caller's transaction. Its space is reserved, and released again
    /// unless [`UncommittedDelivery::committed`] is called.
    ///
    /// # Errors
    /// When the inbox is full, or the database fails.
    pub async fn enqueue_in(
        &self,
        tx: &Tx,
        instance: InstanceId,
        request: WebhookRequest,
    ) -> std::result::Result<UncommittedDelivery, IntakeError> {
        let delivery = self.delivery(instance, request);
        let bytes = delivery.bytes();
        self.inboxes().reserve(instance, bytes).map_err(IntakeError::InboxFull)?;
        // The guard is created before the write, so that a failed write releases the space as well.
        let uncommitted = UncommittedDelivery { webhooks: self.clone(), instance, bytes, is_committed: false };
        self.write(tx, &delivery).await.map_err(IntakeError::Storage)?;
        Ok(uncommitted)
    }

    /// Enqueues an alarm in the caller's transaction: a POST to `path`, or without a path a delivery that only wakes
    /// the instance. Coalesced: an alarm has at most one waiting delivery and one dead letter.
    pub async fn enqueue_alarm_in(
        &self,
        tx: &Tx,
        instance: InstanceId,
        alarm: &str,
        path: Option<&str>,
    ) -> Result<AlarmDelivery> {
        // An alarm that rings every minute at a program that refuses it would otherwise fill the inbox.
        let replaced = store::delete_dead_letters_of_alarm(tx, instance, alarm).await?;
        if store::alarm_waits(tx, instance, alarm).await? {
            return Ok(AlarmDelivery { is_new: false, replaced });
        }
        let request = path.map(|path| WebhookRequest {
            method: "POST".into(),
            target: path.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
        });
        let id = DeliveryId(self.0.clock.uuid());
        self.write(tx, &WebhookDelivery { id, instance, alarm: Some(alarm.to_owned()), request }).await?;
        Ok(AlarmDelivery { is_new: true, replaced })
    }

    /// Counts an alarm's delivery and makes it due. Must be called after the commit.
    pub fn alarm_committed(&self, instance: InstanceId, alarm: AlarmDelivery) {
        {
            let mut inboxes = self.inboxes();
            for _ in 0..alarm.replaced {
                inboxes.release(instance, DeliveryState::DeadLetter, 0);
            }
            if alarm.is_new {
                inboxes.inbox(instance).counts.waiting += 1;
            }
        }
        self.schedule(instance, self.0.clock.now());
    }

    fn delivery(&self, instance: InstanceId, request: WebhookRequest) -> WebhookDelivery {
        WebhookDelivery { id: DeliveryId(self.0.clock.uuid()), instance, alarm: None, request: Some(request) }
    }

    async fn write(&self, tx: &Tx, delivery: &WebhookDelivery) -> Result<()> {
        // A number taken for a transaction that rolls back leaves a gap, which is harmless: only the order counts.
        let sequence = self.0.sequence.fetch_add(1, Ordering::SeqCst) + 1;
        let now = self.0.clock.now();
        store::insert(tx, delivery, sequence, now, now.plus(RETRY_WINDOW)).await
    }
}
