//! Error responses in both wire formats.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use berth_providers::WireFormat;
use serde_json::json;
use uuid::Uuid;

/// An error response that can be written in both wire formats.
pub struct ErrorShape {
    pub status: StatusCode,
    /// Anthropic's `error.type`.
    pub anthropic: &'static str,
    /// Anthropic's `error.details.error_code`.
    pub anthropic_code: Option<&'static str>,
    /// OpenAI's `error.type`.
    pub openai: &'static str,
    /// OpenAI's `error.code`.
    pub openai_code: Option<&'static str>,
    /// OpenAI's `error.param`.
    pub field: Option<&'static str>,
    pub message: String,
    pub retry_after: Option<Duration>,
    /// Tells the SDK not to retry. `retry_after` is then ignored.
    pub never_retry: bool,
}

impl ErrorShape {
    /// A shape without codes, field and retry advice. `anthropic` and `openai` are the error types.
    pub fn new(status: StatusCode, anthropic: &'static str, openai: &'static str, message: String) -> Self {
        Self {
            status,
            anthropic,
            anthropic_code: None,
            openai,
            openai_code: None,
            field: None,
            message,
            retry_after: None,
            never_retry: false,
        }
    }

    /// The response in one wire format. The error gets a request id like the provider's, for the log of the caller.
    #[must_use]
    pub fn respond(&self, format: WireFormat, request_id: Uuid) -> Response {
        let request_id = format!("req_{}", request_id.simple());
        let (body, id_header) = match format {
            WireFormat::Anthropic => {
                let mut error = json!({ "type": self.anthropic, "message": self.message });
                if let Some(code) = self.anthropic_code {
                    error["details"] = json!({ "error_code": code });
                }
                (json!({ "type": "error", "error": error, "request_id": request_id }), "request-id")
            }
            WireFormat::Openai => {
                let (kind, code, param) = (self.openai, self.openai_code, self.field);
                let error = json!({ "message": self.message, "type": kind, "param": param, "code": code });
                (json!({ "error": error }), "x-request-id")
            }
        };
        let mut response = (self.status, Json(body)).into_response();
        let headers = response.headers_mut();
        if let Ok(id) = HeaderValue::from_str(&request_id) {
            headers.insert(id_header, id);
        }
        if self.never_retry {
            headers.insert("x-should-retry", HeaderValue::from_static("false"));
        } else if let Some(wait) = self.retry_after {
            // Anthropic's SDK sleeps for all of a longer time, and blocks its program.
            headers.insert("retry-after", HeaderValue::from(wait.as_secs().clamp(1, 60)));
        }
        response
    }
}
