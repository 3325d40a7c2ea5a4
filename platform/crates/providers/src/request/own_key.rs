//! Requests under the caller's own key: parses only the fields that determine how the usage is read.
//!
//! The caller pays the provider directly, so nothing is refused for its price. References to objects stored at the
//! provider are allowed too: they are stored under the caller's own key.

use super::json::JsonValue;
use super::{OwnKeyRequest, RequestError, chat, model, parse, stream};
use crate::Api;

/// Parses a body of a call to `api`.
///
/// # Errors
/// When the request cannot be forwarded; the error names the field.
pub fn read(api: Api, bytes: &[u8]) -> Result<OwnKeyRequest, RequestError> {
    let body = parse(bytes)?;
    if api == Api::Responses
        && body.non_null("background").is_some_and(|background| !matches!(background, JsonValue::Bool(false)))
    {
        let why = "a call that goes on without its caller cannot be followed here. Leave it out and stream the answer.";
        return Err(RequestError::new("background", why));
    }
    let stream = api != Api::Embeddings && stream(&body)?;
    let body_with_usage = match api {
        Api::ChatCompletions => {
            chat::check_stream_options(&body)?;
            if stream { chat::body_with_usage(bytes, &body) } else { None }
        }
        _ => None,
    };
    Ok(OwnKeyRequest { model: model(&body)?, stream, body_with_usage })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_with(api: Api, more: &str) -> Result<OwnKeyRequest, RequestError> {
        read(api, format!(r#"{{"model":"m"{more}}}"#).as_bytes())
    }

    #[test]
    fn fields_that_cost_only_the_caller_are_accepted() {
        for (api, more) in [
            (Api::Messages, r#","mcp_servers":[{"type":"url"}],"container":"c","speed":"warp""#),
            (Api::Messages, r#","tools":[{"type":"web_search_20250305"},{"type":"code_execution_20250825"}]"#),
            (Api::ChatCompletions, r#","store":true,"n":500,"web_search_options":{},"modalities":["audio"]"#),
            (Api::Responses, r#","previous_response_id":"resp_1","conversation":"conv_1","prompt":{"id":"p"}"#),
            (Api::Responses, r#","input":[{"type":"item_reference","id":"msg_1"}],"tools":[{"type":"web_search"}]"#),
            (Api::Embeddings, r#","input":{"image":"x"}"#),
        ] {
            assert_eq!(read_with(api, more).unwrap().model, "m", "{more}");
        }
    }

    #[test]
    fn background_calls_and_ambiguous_bodies_are_refused() {
        for (api, body, field) in [
            (Api::Responses, r#"{"model":"m","background":true}"#, Some("background")),
            (Api::Messages, r#"{"model":"m","model":"n"}"#, None),
            (Api::Messages, r#"{"messages":[]}"#, Some("model")),
            (Api::Messages, r#"{"model":"m","stream":1}"#, Some("stream")),
            (Api::ChatCompletions, r#"{"model":"m","stream":true,"stream_options":1}"#, Some("stream_options")),
        ] {
            assert_eq!(read(api, body.as_bytes()).unwrap_err().field, field, "{body}");
        }
    }

    #[test]
    fn a_chat_stream_asks_for_its_usage() {
        let asked = read_with(Api::ChatCompletions, r#","stream":true"#).unwrap();
        let body = String::from_utf8(asked.body_with_usage.unwrap()).unwrap();
        assert!(asked.stream && body.contains(r#""include_usage":true"#), "{body}");
        assert_eq!(read_with(Api::Messages, r#","stream":true"#).unwrap().body_with_usage, None);
    }
}
