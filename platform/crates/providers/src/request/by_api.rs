//! Reading and rewriting a request by its API: each endpoint has its way.

use super::token_count::{self, TokenCountRequest};
use super::{ModelRequest, RequestError, chat, embeddings, messages, responses, shortening};
use crate::{Api, ServiceTier};

impl Api {
    /// Parses a request to a model. `default_tier` is the service tier that the operator's OpenAI project gives a
    /// request without `service_tier`.
    ///
    /// # Errors
    /// When the request cannot be forwarded; the error names the field.
    pub fn read(self, body: &[u8], default_tier: ServiceTier) -> Result<ModelRequest, RequestError> {
        match self {
            Self::Messages => messages::read(body),
            Self::ChatCompletions => chat::read(body, default_tier),
            Self::Responses => responses::read(body, default_tier),
            // A metered call is bounded by the operator's price and is not parsed; the arm only completes the match.
            Self::Embeddings | Self::Metered { .. } => embeddings::read(body),
        }
    }

    /// The request for a token count of `body`. `None` where the provider has no such endpoint, or where its count
    /// would not be an upper bound.
    #[must_use]
    pub fn token_count_request(self, body: &[u8]) -> Option<TokenCountRequest> {
        match self {
            Self::Messages => token_count::of_messages(body),
            Self::Responses => token_count::of_responses(body),
            Self::ChatCompletions | Self::Embeddings | Self::Metered { .. } => None,
        }
    }

    /// The shortest useful answer to `body`, in tokens. `None` for an API with no output limit to lower.
    #[must_use]
    pub fn shortest_answer(self, body: &[u8]) -> Option<u64> {
        match self {
            Self::Messages => shortening::shortest_messages_answer(body),
            Self::ChatCompletions | Self::Responses => Some(shortening::SHORTEST_ANSWER),
            Self::Embeddings | Self::Metered { .. } => None,
        }
    }

    /// `body` with its output limit lowered to `tokens`; the caller ensures that `body` asks for more. `None` where
    /// `body` cannot be edited.
    #[must_use]
    pub fn shortened(self, body: &[u8], tokens: u64) -> Option<Vec<u8>> {
        match self {
            Self::Messages => shortening::messages(body, tokens),
            Self::ChatCompletions => shortening::chat(body, tokens),
            Self::Responses => shortening::responses(body, tokens),
            Self::Embeddings | Self::Metered { .. } => None,
        }
    }
}
