//! The metered APIs: whose wire shape each has, and how it reads a call.

use serde::Deserialize;

use super::request::counted::{self, TokenCountRequest};
use super::request::{self, ModelRequest, RequestError, shorter};
use crate::ServiceTier;

/// The wire shape of a provider of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WireFormat {
    Anthropic,
    Openai,
}

/// One endpoint whose calls cost money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Anthropic's.
    Messages,
    /// OpenAI's, as the others.
    ChatCompletions,
    Responses,
    Embeddings,
    /// No model's: a call that is charged as such. Where bytes are charged, so many were sent.
    Metered {
        sent: Option<u64>,
    },
}

impl Api {
    /// The wire shape, of errors among others.
    #[must_use]
    pub fn speaks(self) -> WireFormat {
        match self {
            Self::Messages => WireFormat::Anthropic,
            Self::ChatCompletions | Self::Responses | Self::Embeddings | Self::Metered { .. } => WireFormat::Openai,
        }
    }

    /// Reads the body of a call of a model. `auto` is the tier that the operator's OpenAI project gives calls which name none.
    ///
    /// # Errors
    /// Why it cannot be forwarded.
    pub fn read(self, body: &[u8], auto: ServiceTier) -> Result<ModelRequest, RequestError> {
        match self {
            Self::Messages => request::messages::read(body),
            Self::ChatCompletions => request::chat::read(body, auto),
            Self::Responses => request::responses::read(body, auto),
            Self::Embeddings | Self::Metered { .. } => request::embeddings::read(body),
        }
    }

    /// How to ask the provider for the tokens of a call's input. `None` where it counts none, or where its count would
    /// bound nothing.
    #[must_use]
    pub fn question(self, body: &[u8]) -> Option<TokenCountRequest> {
        match self {
            Self::Messages => token_count::of_messages(body),
            Self::Responses => token_count::of_responses(body),
            Self::ChatCompletions | Self::Embeddings | Self::Metered { .. } => None,
        }
    }

    /// The shortest answer that a call can be asked to make do with, in tokens. `None`: it has none that could be shorter.
    #[must_use]
    pub fn shortest_answer(self, body: &[u8]) -> Option<u64> {
        match self {
            Self::Messages => shorter::shortest_messages_answer(body),
            Self::ChatCompletions | Self::Responses => Some(shorter::SHORTEST_ANSWER),
            Self::Embeddings | Self::Metered { .. } => None,
        }
    }

    /// The same call with answers of at most `tokens`, which is less than it asks for.
    #[must_use]
    pub fn shortened(self, body: &[u8], tokens: u64) -> Option<Vec<u8>> {
        match self {
            Self::Messages => shorter::messages(body, tokens),
            Self::ChatCompletions => shorter::chat(body, tokens),
            Self::Responses => shorter::responses(body, tokens),
            Self::Embeddings | Self::Metered { .. } => None,
        }
    }
}
