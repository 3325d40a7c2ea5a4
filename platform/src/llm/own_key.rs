//! Calls under their caller's own key: nothing is priced beforehand and nothing of the budget held. They end here as they would
//! at the provider itself: in its own words, and a stream at once when the caller hangs up.

use std::time::Duration;

use axum::response::Response;

use super::api::Api;
use super::drain::Drains;
use super::problem::Problem;
use super::request::{self, Unbounded};
use super::target::Target;
use super::{Arrived, Door, agent};
use crate::own_keys::CallKey;
use crate::quota::{OwnCall, Provider};

impl Door {
    pub(super) async fn under_own_key(
        &self,
        api: Api,
        (name, own): (&str, CallKey),
        target: Target,
        mut arrived: Arrived,
    ) -> Result<Response, Problem> {
        let Unbounded { model, stream, asking_for_usage } =
            request::own_key::read(api, &arrived.taken.body).map_err(Problem::Unacceptable)?;
        let (account, instance) = (arrived.instance.account, arrived.instance.id);
        let call =
            OwnCall { account, instance, agent: agent(&arrived.headers), provider: Provider::named(name), model };
        let hold = self.app.quota.admit_under_own_key(call).await.map_err(Problem::Refused)?;
        let hide_usage = asking_for_usage.is_some();
        if let Some(body) = asking_for_usage {
            arrived.taken.body = body.into();
        }
        let answer = self.relay(api, (name, Some(&own)), (target, arrived), hold, (stream, hide_usage)).await?;
        own.note_status(answer.status().as_u16());
        Ok(answer)
    }

    /// Who reads on when a client hangs up: nobody where that would only run up the client's own bill.
    pub(super) fn drains_of(&self, own: Option<&CallKey>) -> Drains {
        if own.is_some() { Drains::new(0, Duration::ZERO) } else { self.drains.clone() }
    }
}
