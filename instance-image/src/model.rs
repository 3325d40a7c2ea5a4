//! A client of the quota proxy: model calls, the budget, and alarms. Address and key come from the environment, as for
//! every program in the instance.

use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, header};
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{self, BoxStream, StreamExt};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::{Value, json};

/// The offered models: the API's name and the name on the page. The first is the default.
pub const MODELS: &[(&str, &str)] =
    &[("claude-haiku-4-5", "Haiku 4.5"), ("claude-sonnet-4-5", "Sonnet 4.5"), ("claude-opus-4-5", "Opus 4.5")];

const MAX_TOKENS: u32 = 1024;
/// Idle timeout of a response. The provider sends a ping every few seconds while a model thinks.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Timeout of calls that the platform answers from memory or with one transaction.
const CONTROL_TIMEOUT: Duration = Duration::from_secs(2);
/// Largest body of an error or a budget that is read, in bytes.
const MAX_SMALL_BODY: usize = 64 * 1024;
/// Longest line of a stream that is kept, in bytes; the provider's lines have a few hundred.
const MAX_LINE: usize = 256 * 1024;

const AWAY: &str = "The model cannot be reached just now. Try again in a moment.";
const BROKE_OFF: &str = "The answer broke off. Try again in a moment.";

/// A client of the quota proxy.
pub struct ModelClient {
    client: Client<HttpConnector, Full<Bytes>>,
    anthropic_url: String,
    quota_url: String,
    token: String,
}

/// The remaining AI budget of the owner for this month.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct RemainingBudget {
    pub period: String,
    pub allowance_nanodollars: i64,
    pub left_nanodollars: i64,
}

/// A part of a streamed answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AnswerPiece {
    Text(String),
    /// The answer ended at `MAX_TOKENS`.
    CutShort,
    /// An error, as a sentence for the owner. Always the last part.
    Failed(String),
}

impl ModelClient {
    pub fn new(anthropic_url: String, quota_url: String, token: String) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_secs(5)));
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            // No keep-alive pool: after a freeze, pooled connections have long been closed by the other side, and the
            // first request on each would fail. A new connection to a process on the same host takes less than a
            // millisecond.
            .pool_max_idle_per_host(0)
            .build(connector);
        Self { client, anthropic_url, quota_url, token }
    }

    /// The budget; `None` when the quota proxy does not answer.
    pub async fn budget(&self) -> Option<RemainingBudget> {
        let request = Request::get(format!("{}/budget", self.quota_url))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Full::default())
            .ok()?;
        let ask = async {
            let response = self.client.request(request).await.ok()?;
            if !response.status().is_success() {
                return None;
            }
            let body = Limited::new(response.into_body(), MAX_SMALL_BODY).collect().await.ok()?;
            serde_json::from_slice(&body.to_bytes()).ok()
        };
        tokio::time::timeout(CONTROL_TIMEOUT, ask).await.ok()?
    }

    /// Sets an alarm: Berth wakes this instance at `at` (Unix seconds) and posts to `path`.
    ///
    /// # Errors
    /// The reason, as a sentence for the owner.
    pub async fn set_alarm(&self, name: &str, at: u64, path: &str) -> Result<(), String> {
        const AWAY: &str = "The alarm could not be set just now. Try again in a moment.";
        let request = Request::put(format!("{}/alarms/{name}", self.quota_url))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Full::from(json!({ "at": at, "path": path }).to_string()))
            .map_err(|_| AWAY.to_owned())?;
        let set = async {
            let response = self.client.request(request).await.ok()?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_SMALL_BODY).collect().await.ok()?;
            Some((status, body.to_bytes()))
        };
        match tokio::time::timeout(CONTROL_TIMEOUT, set).await {
            Ok(Some((status, _))) if status.is_success() => Ok(()),
            Ok(Some((_, problem))) => {
                let problem: Option<Value> = serde_json::from_slice(&problem).ok();
                Err(problem.and_then(|p| Some(p.get("detail")?.as_str()?.to_owned())).unwrap_or_else(|| AWAY.into()))
            }
            _ => Err(AWAY.into()),
        }
    }

    /// Streams the answer of `model` to `question` as the provider sends it. Dropping the stream cancels the call.
    pub async fn ask(&self, model: &str, question: &str) -> BoxStream<'static, AnswerPiece> {
        let body = json!({
            "model": model,
            "max_tokens": MAX_TOKENS,
            "stream": true,
            "messages": [{ "role": "user", "content": question }],
        });
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("{}/v1/messages", self.anthropic_url))
            .header("x-api-key", &self.token)
            .header("anthropic-version", "2023-06-01")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()));
        // Only the address from the environment can make the request invalid.
        let Ok(request) = request else {
            return failed("This instance does not know where its models are: ANTHROPIC_BASE_URL is not an address.");
        };
        let response = match tokio::time::timeout(IDLE_TIMEOUT, self.client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) | Err(_) => return failed(AWAY),
        };
        if !response.status().is_success() {
            let body = Limited::new(response.into_body(), MAX_SMALL_BODY).collect().await;
            let body = body.map(|b| b.to_bytes()).unwrap_or_default();
            return failed(&error_sentence(&body).unwrap_or_else(|| AWAY.to_owned()));
        }
        pieces(Body::new(response.into_body()).into_data_stream()).boxed()
    }
}

fn failed(sentence: &str) -> BoxStream<'static, AnswerPiece> {
    stream::iter([AnswerPiece::Failed(sentence.to_owned())]).boxed()
}

/// The provider's own sentence in `{"type":"error","error":{"type":..,"message":..}}`.
fn error_sentence(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let message = body["error"]["message"].as_str()?.trim();
    (!message.is_empty()).then(|| message.to_owned())
}

/// Parses a provider's event stream into pieces. A stream that ends without `message_stop` yields a failure.
fn pieces<E: 'static>(
    chunks: impl Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
) -> impl Stream<Item = AnswerPiece> + Send {
    stream::unfold(Some((chunks, EventParser::default())), |state| async {
        let (mut chunks, mut events) = state?;
        loop {
            if let Some(piece) = events.next() {
                let over = matches!(piece, AnswerPiece::Failed(_));
                return Some((piece, (!over).then_some((chunks, events))));
            }
            if events.complete {
                return None;
            }
            match tokio::time::timeout(IDLE_TIMEOUT, chunks.next()).await {
                Ok(Some(Ok(chunk))) => events.push(&chunk),
                Ok(Some(Err(_)) | None) | Err(_) => return Some((AnswerPiece::Failed(BROKE_OFF.to_owned()), None)),
            }
        }
    })
}

/// An incremental parser of the Anthropic Messages API's server-sent events. Format:
/// <https://docs.anthropic.com/en/docs/build-with-claude/streaming>.
#[derive(Default)]
struct EventParser {
    /// The bytes of an incomplete line.
    line: Vec<u8>,
    ready: std::collections::VecDeque<AnswerPiece>,
    /// Whether `message_stop` was seen.
    complete: bool,
}

impl EventParser {
    fn push(&mut self, chunk: &[u8]) {
        for &byte in chunk {
            if byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.read(&line);
            // A longer line is truncated: its JSON then fails to parse, and the event is skipped.
            } else if self.line.len() < MAX_LINE {
                self.line.push(byte);
            }
        }
    }

    fn next(&mut self) -> Option<AnswerPiece> {
        self.ready.pop_front()
    }

    /// Parses one line. `event:` lines are skipped, because the data of each event names its type as well.
    fn read(&mut self, line: &[u8]) {
        let Some(data) = line.strip_prefix(b"data:") else { return };
        let Ok(event) = serde_json::from_slice::<Value>(data) else { return };
        match event["type"].as_str() {
            Some("content_block_delta") => {
                if let Some(text) = event["delta"]["text"].as_str() {
                    self.ready.push_back(AnswerPiece::Text(text.to_owned()));
                }
            }
            Some("message_delta") if event["delta"]["stop_reason"] == "max_tokens" => {
                self.ready.push_back(AnswerPiece::CutShort);
            }
            Some("message_stop") => self.complete = true,
            Some("error") => {
                let sentence = event["error"]["message"].as_str().unwrap_or(BROKE_OFF).to_owned();
                self.ready.push_back(AnswerPiece::Failed(sentence));
            }
            // Events without text, and types that the API adds later; its versioning policy requires clients to skip
            // them.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"usage\":{\"output_tokens\":1}}}\n\n\
        event: ping\ndata: {\"type\": \"ping\"}\n\n: a comment\n\n\
        event: content_block_delta\r\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"Ahoy \"}}\r\n\r\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"text_delta\",\"text\":\"⚓ \\u00e9\"}}\n\n\
        event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"delta\":{\"type\":\"thinking_delta\",\"thinking\":\"hm\"}}\n\n\
        event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"end_turn\"}}\n\n\
        event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";

    async fn read_in_chunks_of(size: usize, text: &str) -> Vec<AnswerPiece> {
        let chunks: Vec<Result<Bytes, ()>> =
            text.as_bytes().chunks(size).map(|c| Ok(Bytes::copy_from_slice(c))).collect();
        pieces(stream::iter(chunks)).collect().await
    }

    #[tokio::test]
    async fn the_text_is_the_same_however_the_stream_is_cut() {
        let whole = vec![AnswerPiece::Text("Ahoy ".into()), AnswerPiece::Text("⚓ é".into())];
        for size in [1, 2, 3, 7, 64, STREAM.len()] {
            assert_eq!(read_in_chunks_of(size, STREAM).await, whole, "in chunks of {size}");
        }
    }

    #[tokio::test]
    async fn a_stream_that_ends_early_says_so() {
        let early = &STREAM[..STREAM.find("event: message_stop").unwrap()];
        assert_eq!(read_in_chunks_of(50, early).await.last(), Some(&AnswerPiece::Failed(BROKE_OFF.into())));
    }

    #[tokio::test]
    async fn an_error_inside_the_stream_is_the_last_piece() {
        let text = "data: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"message\":\"Overloaded\"}}\n\n\
            data: {\"type\":\"content_block_delta\",\"delta\":{\"text\":\"late\"}}\n\n";
        assert_eq!(read_in_chunks_of(10, text).await, [AnswerPiece::Failed("Overloaded".into())]);
    }

    #[tokio::test]
    async fn an_answer_that_was_cut_short_says_so() {
        let text = "data: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"max_tokens\"}}\n\n\
            data: {\"type\":\"message_stop\"}\n\n";
        assert_eq!(read_in_chunks_of(9, text).await, [AnswerPiece::CutShort]);
    }

    #[test]
    fn the_providers_sentence_is_found_in_its_error() {
        let body = br#"{"type":"error","error":{"type":"rate_limit_error","message":"The allowance is spent."}}"#;
        assert_eq!(error_sentence(body).as_deref(), Some("The allowance is spent."));
        for body in ["", "<html>", "{}", r#"{"error":{"message":""}}"#] {
            assert_eq!(error_sentence(body.as_bytes()), None, "{body}");
        }
    }
}
