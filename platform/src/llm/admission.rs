//! Letting a call of a model in. What its bytes bound is held, which asks nobody; only where that does not fit is the
//! provider asked how many tokens they are, and the call tried once more with so many. Where that does not fit either, a
//! call that asked for it is let in with a shorter answer.
//!
//! A count costs nothing, and whoever may not call gets none: the caller is known by then, keeps its place in the door
//! meanwhile, and could have had it counted itself (`/v1/messages/count_tokens`). Nothing is asked where not even the
//! smallest count would help, so a spent allowance is refused at once.

use std::num::NonZeroU64;

use axum::http::Method;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use serde::Deserialize;

use super::provider_call::{Answer, Outgoing};
use super::proxy_error::Problem;
use super::upstream_path::Target;
use super::{Arrived, Door, seat};
use crate::quota::{Demand, Hold, InputBound, Provider, Refusal};
use berth_providers::Api;
use berth_providers::request::token_count::TokenCountRequest;

/// The largest answer to the question for a count; it is one number.
const LARGEST_COUNT: usize = 4096;

/// A call of a model that wants to be let in.
#[derive(Clone, Copy)]
pub struct Applicant<'a> {
    pub(super) api: Api,
    /// Of the provider.
    pub(super) name: &'a str,
    pub(super) target: &'a Target,
    pub(super) arrived: &'a Arrived,
    /// It would rather have a shorter answer than be refused.
    pub(super) may_be_shorter: bool,
}

/// Both providers' answer.
#[derive(Deserialize)]
struct Count {
    input_tokens: NonZeroU64,
}

impl Door {
    /// Holds what a call can cost, which is `demand` by its bytes. Beside the hold, where the answer has to be shorter than
    /// the call asks for: how many tokens it may have.
    ///
    /// # Errors
    /// Why it may not be made.
    pub(super) async fn admit_model(
        &self,
        applicant: Applicant<'_>,
        demand: Demand,
    ) -> Result<(Hold, Option<u64>), Problem> {
        match self.admit(applicant.arrived, demand).await {
            // On the heap, so that calls that fit do not carry its state with them.
            Err(Problem::Refused(refusal)) if refusal.leaves_room() => Box::pin(self.fit(applicant, refusal)).await,
            admitted => Ok((admitted?, None)),
        }
    }

    /// Looks for a way in for a call that its bytes would refuse.
    async fn fit(&self, applicant: Applicant<'_>, refusal: Refusal) -> Result<(Hold, Option<u64>), Problem> {
        let Applicant { api, name, arrived, may_be_shorter, .. } = applicant;
        let Ok(asked) = api.read(&arrived.taken.body, self.auto) else { return Err(Problem::Refused(refusal)) };
        let by_bytes = Demand { provider: Provider::named(name), ..asked.demand };
        let could_be = |least: &u64| by_bytes.max_output_tokens.is_none_or(|asked| asked > *least);
        let least = if may_be_shorter { api.shortest_answer(&arrived.taken.body).filter(could_be) } else { None };
        match (self.second_look(applicant, &by_bytes, least).await, least) {
            (by_count, Some(least)) => {
                let call = arrived.call(by_count.unwrap_or(by_bytes));
                self.app.quota.admit_shorter(call, least).await.map_err(|refusal| {
                    if refusal.leaves_room() { Problem::RefusedAtAnyLength(refusal) } else { Problem::Refused(refusal) }
                })
            }
            (Some(by_count), None) => Ok((self.admit(arrived, by_count).await?, None)),
            (None, None) => Err(Problem::Refused(refusal)),
        }
    }

    /// What a call can cost by a count of its input. `None` where that is not known to be less than `demand`, by its
    /// bytes, or would be too much all the same, even with an answer of `least` tokens.
    async fn second_look(&self, applicant: Applicant<'_>, demand: &Demand, least: Option<u64>) -> Option<Demand> {
        let Applicant { api, name, arrived, .. } = applicant;
        // What others count, and whether they do, is not known.
        if ![Provider::ANTHROPIC, Provider::OPENAI].contains(&demand.provider) {
            return None;
        }
        let by_bytes = if let InputBound::Tokens(bytes) = demand.input { bytes } else { u64::MAX };
        let with_input = |tokens: u64| Demand { input: InputBound::Counted(tokens.min(by_bytes)), ..demand.clone() };
        let question = api.question(&arrived.taken.body)?;
        let smallest =
            Demand { max_output_tokens: least.or(demand.max_output_tokens), ..with_input(question.at_most(1)) };
        if !self.app.quota.has_room_for(arrived.instance.account, &smallest).await {
            return None;
        }
        let tokens = self.count(applicant, &question).await;
        if tokens.is_none() {
            tracing::warn!(provider = name, "the input of a call was not counted; its bytes decide");
        }
        Some(with_input(question.at_most(tokens?)))
    }

    /// How many tokens the provider counts.
    async fn count(&self, applicant: Applicant<'_>, question: &TokenCountRequest) -> Option<u64> {
        let Applicant { name, target, arrived, .. } = applicant;
        let _room = self.doorway.room(question.body.len()).ok()?;
        let target = Target::checked(question.path.to_owned(), target.query().map(str::to_owned));
        let headers = arrived.headers.clone();
        let request = self.upstreams.call((name, None), Method::POST, &target, headers, question.body.clone()).ok()?;
        let counting = counted_by(request.seated(seat(&arrived.instance)));
        tokio::time::timeout(self.upstreams.patience.count, counting).await.ok()?
    }
}

async fn counted_by(request: Outgoing) -> Option<u64> {
    let answer = request.send(Answer::Whole).await.ok().filter(|answer| answer.status().is_success())?;
    let (mut said, mut chunks) = (BytesMut::new(), answer.bytes_stream());
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.ok().filter(|chunk| said.len() + chunk.len() <= LARGEST_COUNT)?;
        said.extend_from_slice(&chunk);
    }
    let count: Count = serde_json::from_slice(&said).ok()?;
    Some(count.input_tokens.get())
}
