//! Usage parser for OpenAI's embeddings, which have no output and are never streamed.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::{Usage, UsageReport};

#[derive(Deserialize)]
struct EmbeddingsResponse<'a> {
    #[serde(borrow)]
    usage: &'a RawValue,
}

#[derive(Deserialize)]
struct EmbeddingsUsage {
    prompt_tokens: u64,
}

pub(super) fn of_response(body: &[u8]) -> Option<(UsageReport, &str)> {
    let raw = serde_json::from_slice::<EmbeddingsResponse<'_>>(body).ok()?.usage.get();
    let figures: EmbeddingsUsage = serde_json::from_str(raw).ok()?;
    Some((UsageReport::Final(Usage { input_tokens: figures.prompt_tokens, ..Usage::default() }), raw))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_the_input_only() {
        let answer = br#"{"object":"list","data":[{"embedding":[0.1]}],"usage":{"prompt_tokens":8,"total_tokens":8}}"#;
        let usage = Usage { input_tokens: 8, ..Usage::default() };
        assert_eq!(of_response(answer), Some((UsageReport::Final(usage), r#"{"prompt_tokens":8,"total_tokens":8}"#)));
        assert_eq!(of_response(br#"{"usage":null}"#), None);
    }
}
