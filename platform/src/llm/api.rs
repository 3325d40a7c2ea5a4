//! The metered APIs: how each reads a call, and what it says of what was used.

use super::request::{self, Asked, Unacceptable};
use crate::quota::{Provider, Tier};

/// One endpoint whose calls cost money.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// Anthropic's.
    Messages,
    /// OpenAI's, as the others.
    ChatCompletions,
    Responses,
    Embeddings,
}

impl Api {
    #[must_use]
    pub fn provider(self) -> Provider {
        match self {
            Self::Messages => Provider::Anthropic,
            Self::ChatCompletions | Self::Responses | Self::Embeddings => Provider::Openai,
        }
    }

    /// Reads the body of a call. `auto` is the tier that the operator's OpenAI project gives calls which name none.
    ///
    /// # Errors
    /// Why it cannot be forwarded.
    pub fn read(self, body: &[u8], auto: Tier) -> Result<Asked, Unacceptable> {
        match self {
            Self::Messages => request::messages::read(body),
            Self::ChatCompletions => request::chat::read(body, auto),
            Self::Responses => request::responses::read(body, auto),
            Self::Embeddings => request::embeddings::read(body),
        }
    }
}
