//! Calls under their caller's own key: nothing is priced beforehand and nothing of the budget held. They end here as they would
//! at the provider itself: in its own words, and a stream at once when the caller hangs up.

use std::time::Duration;

use axum::response::Response;

use super::drain::Drains;
use super::proxy_error::Problem;
use super::upstream_path::Target;
use super::{Arrived, Door, agent};
use crate::own_keys::Pass;
use crate::quota::{OwnCall, Provider};
use berth_providers::Api;
use berth_providers::request::{self, OwnKeyRequest};

impl Door {
    pub(super) async fn under_own_key(
        &self,
        api: Api,
        (name, own): (&str, Pass),
        target: Target,
        mut arrived: Arrived,
    ) -> Result<Response, Problem> {
        let OwnKeyRequest { model, stream, body_with_usage } =
            request::own_key::read(api, &arrived.taken.body).map_err(Problem::Unacceptable)?;
        let (account, instance) = (arrived.instance.account, arrived.instance.id);
        let call =
            OwnCall { account, instance, agent: agent(&arrived.headers), provider: Provider::named(name), model };
        let hold = self.app.quota.admit_under_own_key(call).await.map_err(Problem::Refused)?;
        let hide_usage = body_with_usage.is_some();
        if let Some(body) = body_with_usage {
            arrived.taken.body = body.into();
        }
        let answer = self.relay(api, (name, Some(&own)), (target, arrived), hold, (stream, hide_usage)).await?;
        own.heard(answer.status().as_u16());
        Ok(answer)
    }

    /// Who reads on when a client hangs up: nobody where that would only run up the client's own bill.
    pub(super) fn drains_of(&self, own: Option<&Pass>) -> Drains {
        if own.is_some() { Drains::new(0, Duration::ZERO) } else { self.drains.clone() }
    }
}
