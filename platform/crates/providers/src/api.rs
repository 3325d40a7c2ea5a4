//! The metered API endpoints, each with its wire format.

use serde::Deserialize;

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
}
