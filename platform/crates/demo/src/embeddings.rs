//! The wire format of OpenAI's Embeddings API: deterministic vectors without meaning, equal for equal texts.

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::script::input_tokens;

/// The default number of dimensions.
const DIMENSIONS: u64 = 8;
const MAX_DIMENSIONS: u64 = 3072;

/// The answer, and the number of input tokens. `None` if the body is invalid.
pub fn answer(body: &[u8]) -> Option<(Value, u64)> {
    let request: Value = serde_json::from_slice(body).ok()?;
    let model = request.get("model")?.as_str()?;
    let texts = match request.get("input")? {
        // An array of numbers is one text, already tokenized; any other array holds several texts.
        Value::Array(texts) if !texts.iter().all(Value::is_u64) => texts.clone(),
        one => vec![one.clone()],
    };
    let dimensions = request.get("dimensions").and_then(Value::as_u64).unwrap_or(DIMENSIONS).min(MAX_DIMENSIONS);
    let in_base64 = request.get("encoding_format").is_some_and(|format| format == "base64");
    let data = texts.iter().enumerate().map(|(index, text)| {
        let numbers = embedding(&text.to_string(), dimensions);
        let embedding = if in_base64 {
            // The API's base64 form: little-endian 32-bit floats.
            let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_le_bytes()).collect();
            json!(base64::engine::general_purpose::STANDARD.encode(bytes))
        } else {
            json!(numbers)
        };
        json!({ "object": "embedding", "index": index, "embedding": embedding })
    });
    let tokens = input_tokens(body);
    let usage = json!({ "prompt_tokens": tokens, "total_tokens": tokens });
    Some((json!({ "object": "list", "data": data.collect::<Vec<_>>(), "model": model, "usage": usage }), tokens))
}

fn embedding(text: &str, dimensions: u64) -> Vec<f32> {
    let number = |dimension: u64| {
        let digest = Sha256::new().chain_update(dimension.to_le_bytes()).chain_update(text).finalize();
        f32::from(digest[0]) / 255.0 - 0.5
    };
    (0..dimensions).map(number).collect()
}
