//! The metered API endpoints, each with its wire format and its request parser.

use serde::Deserialize;

use super::request::token_count::{self, TokenCountRequest};
use super::request::{self, ModelRequest, RequestError, shortening};
use crate::ServiceTier;

/// The wire format of a model provider: headers, error bodies, field names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireFormat {
    Anthropic,
    Openai,
}

/// An API endpoint that charges for its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Anthropic's `POST /v1/messages`.
    Messages,
    /// OpenAI's `POST /v1/chat/completions`.
    ChatCompletions,
    /// OpenAI's `POST /v1/responses`.
    Responses,
    /// OpenAI's `POST /v1/embeddings`.
    Embeddings,
    /// An API without a model, priced per call. `sent` is the number of bytes of the request body, where the operator
    /// also prices bytes.
    Metered { sent: Option<u64> },
}

impl Api {
    /// The wire format of the endpoint's error responses and headers.
    #[must_use]
    pub fn wire_format(self) -> WireFormat {
        match self {
            Self::Messages => WireFormat::Anthropic,
            Self::ChatCompletions | Self::Responses | Self::Embeddings | Self::Metered { .. } => WireFormat::Openai,
        }
    }

    /// Parses a request to a model. `default_tier` is the service tier that the operator's OpenAI project gives a
    /// request without `service_tier`.
    ///
    /// # Errors
    /// When the request cannot be forwarded; the error names the field.
    pub fn read(self, body: &[u8], default_tier: ServiceTier) -> Result<ModelRequest, RequestError> {
        match self {
            Self::Messages => request::messages::read(body),
            Self::ChatCompletions => request::chat::read(body, default_tier),
            Self::Responses => request::responses::read(body, default_tier),
            // A metered call is bounded by the operator's price and is not parsed; the arm only completes the match.
            Self::Embeddings | Self::Metered { .. } => request::embeddings::read(body),
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
