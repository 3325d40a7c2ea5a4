//! The cost bound of an OpenAI embeddings request, which has input only.

use super::json::JsonValue;
use super::{ContentKind, ModelRequest, RequestError, model, parse};
use crate::{CacheWrites, Demand, Provider, ServiceTier, TierChoice};

/// See the constant of the same name in `messages.rs`.
const BOUNDED_FIELDS: &[&str] = &["model", "input", "dimensions", "encoding_format", "user"];

/// A margin for tokens that the provider may add to each text. Its documentation mentions none.
const ADDED_TO_EACH: u64 = 8;

/// Parses a body of `POST /v1/embeddings`.
///
/// # Errors
/// When the request cannot be forwarded; the error names the field.
pub fn read(bytes: &[u8]) -> Result<ModelRequest, RequestError> {
    let body = parse(bytes)?;
    let texts = match body.get("input") {
        Some(JsonValue::Text(_) | JsonValue::LongText(_)) => 1,
        Some(JsonValue::Array(texts)) if texts.iter().all(is_text_or_tokens) => texts.len(),
        _ => return Err(RequestError::new("input", "must be text or tokens, or an array of either.")),
    };
    let added = u64::try_from(texts).unwrap_or(u64::MAX).saturating_mul(ADDED_TO_EACH);
    let content = ContentKind::text_if(body.names().all(|field| BOUNDED_FIELDS.contains(&field)));
    let demand = Demand {
        provider: Provider::OPENAI,
        model: model(&body)?,
        service: TierChoice::Auto(ServiceTier::Standard),
        input: content.bound(bytes, added),
        cache_writes: CacheWrites::Never,
        max_output_tokens: Some(0),
        answers: 1,
        extra_output_tokens: 0,
        web_searches: 0,
        may_be_us: false,
        may_hide_output: false,
    };
    Ok(ModelRequest { demand, stream: false, body_with_usage: None })
}

fn is_text_or_tokens(value: &JsonValue<'_>) -> bool {
    match value {
        // A token id takes at least two bytes of JSON (a digit and a separator), so bytes bound the tokens here too.
        JsonValue::Text(_) | JsonValue::LongText(_) | JsonValue::Count(_) => true,
        JsonValue::Array(tokens) => tokens.iter().all(|token| matches!(token, JsonValue::Count(_))),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::InputBound;

    #[test]
    fn the_input_is_bounded_by_its_bytes_and_there_is_no_output() {
        for input in [r#""hello""#, r#"["a","b"]"#, "[1,2,3]", "[[1,2],[3]]"] {
            let body = format!(r#"{{"model":"m","input":{input}}}"#);
            let demand = read(body.as_bytes()).unwrap().demand;
            assert!(matches!(demand.input, InputBound::Tokens(n) if n >= body.len() as u64), "{input}");
            assert_eq!(demand.max_output_tokens, Some(0));
        }
        for input in [r#"{"image":"x"}"#, r#"[{"image":"x"}]"#, "null", "[[\"a\"]]"] {
            let body = format!(r#"{{"model":"m","input":{input}}}"#);
            assert_eq!(read(body.as_bytes()).unwrap_err().field, Some("input"), "{input}");
        }
    }
}
