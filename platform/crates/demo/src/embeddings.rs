//! The demo model's embeddings: numbers without a meaning, the same for the same text.

use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::script::input_tokens;

/// Of an embedding, when the caller does not say.
const DIMENSIONS: u64 = 8;
const MOST_DIMENSIONS: u64 = 3072;

/// The answer and what its input counts. `None`: not a body that any model answers.
pub fn answer(body: &[u8]) -> Option<(Value, u64)> {
    let asked: Value = serde_json::from_slice(body).ok()?;
    let model = asked.get("model")?.as_str()?;
    let texts = match asked.get("input")? {
        Value::Array(texts) if !texts.iter().all(Value::is_u64) => texts.clone(),
        one => vec![one.clone()],
    };
    let dimensions = asked.get("dimensions").and_then(Value::as_u64).unwrap_or(DIMENSIONS).min(MOST_DIMENSIONS);
    let in_base64 = asked.get("encoding_format").is_some_and(|format| format == "base64");
    let data = texts.iter().enumerate().map(|(index, text)| {
        let numbers = embedding(&text.to_string(), dimensions);
        let embedding = if in_base64 {
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
