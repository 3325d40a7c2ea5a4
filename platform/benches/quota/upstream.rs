//! The provider behind all proxies: a small, fast program that answers Anthropic's messages and OpenAI's chat
//! completions, whole and streamed, with figures of usage as theirs. It stands in every instance too, where it only
//! says that it is there.
//!
//! It is directed by what a call says of its user, such as `events=100 every_ms=20`, which goes through every proxy.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderName, HeaderValue, Request, Response, StatusCode};
use bytes::Bytes;
use futures_util::{Stream, stream};
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::time::MissedTickBehavior;

use super::questions::{MODEL, STREAMING_MODEL};

/// What it says of its usage unless it is directed otherwise: about what the question and the answer have.
const PROMPT_TOKENS: i64 = 236;
const COMPLETION_TOKENS: i64 = 58;
/// Events of a stream that bring words, unless it is directed otherwise.
const EVENTS: u64 = 8;
/// As OpenAI's and Anthropic's answers have them, and more than a proxy may pass on.
const HEADERS: [(&str, &str); 12] = [
    ("access-control-expose-headers", "X-Request-ID"),
    ("openai-organization", "bookshop-4k2j"),
    ("openai-processing-ms", "412"),
    ("openai-version", "2020-10-01"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "1999740"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("strict-transport-security", "max-age=31536000; includeSubDomains; preload"),
    ("x-content-type-options", "nosniff"),
    ("x-request-id", "req_4f0c7b2f6f7f4b3d9d7a5f2f3a1c8e90"),
];

/// The provider that an answer imitates.
#[derive(Clone, Copy)]
pub enum Api {
    Chat,
    Messages,
}

type Answer = Either<Full<Bytes>, Body>;

/// What was served whole, by its own account.
#[derive(Default)]
struct Ledger {
    calls: AtomicI64,
    prompt_tokens: AtomicI64,
    completion_tokens: AtomicI64,
}

/// The same as `GET /served` says it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    pub calls: i64,
    pub prompt_tokens: i64,
    pub completion_tokens: i64,
}

/// As much of a call as it looks at.
#[derive(Deserialize)]
struct Asked<'a> {
    #[serde(default)]
    stream: bool,
    stream_options: Option<StreamOptions>,
    #[serde(borrow)]
    user: Option<Cow<'a, str>>,
    #[serde(borrow)]
    metadata: Option<Metadata<'a>>,
}

#[derive(Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow)]
    user_id: Option<Cow<'a, str>>,
}

impl Asked<'_> {
    /// What the call directs it to, where it does.
    fn direction(&self, name: &str) -> Option<u64> {
        let user = self.user.as_ref().or_else(|| self.metadata.as_ref()?.user_id.as_ref())?;
        user.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }
}

/// Serves on every loopback address, and says on which port.
pub fn run(port: u16) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        println!("{}", listener.local_addr()?.port());
        std::io::stdout().flush()?;
        let ledger = Arc::<Ledger>::default();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let ledger = Arc::clone(&ledger);
            let service = service_fn(move |request| {
                let ledger = Arc::clone(&ledger);
                async move { Ok::<_, Infallible>(answer(request, &ledger).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
        }
    })
}

async fn answer(request: Request<Incoming>, ledger: &Ledger) -> Response<Answer> {
    let api = match request.uri().path() {
        "/v1/chat/completions" => Api::Chat,
        "/v1/messages" => Api::Messages,
        "/served" => return whole("application/json", ledger.said()),
        "/healthz" => return whole("text/plain", String::new()),
        _ => return refused(StatusCode::NOT_FOUND),
    };
    let Ok(body) = request.into_body().collect().await.map(http_body_util::Collected::to_bytes) else {
        return refused(StatusCode::BAD_REQUEST);
    };
    let Ok(asked) = serde_json::from_slice::<Asked<'_>>(&body) else { return refused(StatusCode::BAD_REQUEST) };
    if let Some(after_ms) = asked.direction("after_ms").filter(|after_ms| *after_ms > 0) {
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
    }
    if asked.stream {
        return with_headers("text/event-stream; charset=utf-8", Either::Right(Body::from_stream(paced(api, &asked))));
    }
    let tokens = |name, usual| asked.direction(name).and_then(|n| n.try_into().ok()).unwrap_or(usual);
    let (prompt, completion) = (tokens("prompt_tokens", PROMPT_TOKENS), tokens("completion_tokens", COMPLETION_TOKENS));
    ledger.note(prompt, completion);
    whole("application/json", whole_text(api, prompt, completion))
}

fn whole(kind: &'static str, text: String) -> Response<Answer> {
    with_headers(kind, Either::Left(Full::new(text.into())))
}

fn refused(status: StatusCode) -> Response<Answer> {
    let mut response = whole("text/plain", String::new());
    *response.status_mut() = status;
    response
}

fn with_headers(kind: &'static str, body: Answer) -> Response<Answer> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static(kind));
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

impl Ledger {
    fn note(&self, prompt_tokens: i64, completion_tokens: i64) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.prompt_tokens.fetch_add(prompt_tokens, Ordering::Relaxed);
        self.completion_tokens.fetch_add(completion_tokens, Ordering::Relaxed);
    }

    fn said(&self) -> String {
        let [calls, prompt_tokens, completion_tokens] =
            [&self.calls, &self.prompt_tokens, &self.completion_tokens].map(|sum| sum.load(Ordering::Relaxed));
        serde_json::to_string(&Served { calls, prompt_tokens, completion_tokens }).unwrap_or_default()
    }
}

fn whole_text(api: Api, prompt_tokens: i64, completion_tokens: i64) -> String {
    let text = "Yes, the hardcover of A Wizard of Earthsea is in stock, and we wrap presents at no charge. Orders before \
                noon usually reach Leeds in two working days, so Wednesday is likely. Shall I put one aside for you?";
    match api {
        Api::Chat => format!(
            r#"{{
  "id": "chatcmpl-CbX7bVq2mYV0qC3pTn6Jm1yHs9kLd",
  "object": "chat.completion",
  "created": 1795622400,
  "model": "{MODEL}-2024-07-18",
  "choices": [
    {{
      "index": 0,
      "message": {{
        "role": "assistant",
        "content": "{text}",
        "refusal": null,
        "annotations": []
      }},
      "logprobs": null,
      "finish_reason": "stop"
    }}
  ],
  "usage": {{
    "prompt_tokens": {prompt_tokens},
    "completion_tokens": {completion_tokens},
    "total_tokens": {},
    "prompt_tokens_details": {{
      "cached_tokens": 0,
      "audio_tokens": 0
    }},
    "completion_tokens_details": {{
      "reasoning_tokens": 0,
      "audio_tokens": 0,
      "accepted_prediction_tokens": 0,
      "rejected_prediction_tokens": 0
    }}
  }},
  "service_tier": "default",
  "system_fingerprint": "fp_44709d6fcb"
}}
"#,
            prompt_tokens + completion_tokens
        ),
        Api::Messages => format!(
            r#"{{"model":"{STREAMING_MODEL}","id":"msg_01XFDUDYJgAACzvnptvVoYEL","type":"message","role":"assistant","content":[{{"type":"text","text":"{text}"}}],"stop_reason":"end_turn","stop_sequence":null,"usage":{{"input_tokens":{prompt_tokens},"cache_creation_input_tokens":0,"cache_read_input_tokens":0,"cache_creation":{{"ephemeral_5m_input_tokens":0,"ephemeral_1h_input_tokens":0}},"output_tokens":{completion_tokens},"service_tier":"standard","inference_geo":"global"}}}}"#
        ),
    }
}

/// The events of a stream as it is sent, one after the other.
fn paced(api: Api, asked: &Asked<'_>) -> impl Stream<Item = Result<Bytes, Infallible>> + use<> {
    let include_usage = asked.stream_options.as_ref().is_some_and(|options| options.include_usage);
    let number = |name, usual| asked.direction(name).unwrap_or(usual);
    let events = events(api, number("number", 0), number("events", EVENTS), include_usage);
    let every = Duration::from_millis(number("every_ms", 0));
    let pace = (!every.is_zero()).then(|| {
        let mut pace = tokio::time::interval(every);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace
    });
    stream::unfold((events, pace), |(mut events, mut pace)| async move {
        let event = events.next()?;
        match &mut pace {
            Some(pace) if event.brings_words => {
                pace.tick().await;
            }
            // Each is sent by itself, as a provider's are.
            _ => tokio::task::yield_now().await,
        }
        Some((Ok(event.text.into()), (events, pace)))
    })
}

pub struct Event {
    pub text: String,
    brings_words: bool,
}

/// All of the stream of this number, of which `count` bring words. No two streams are the same.
pub fn events(api: Api, number: u64, count: u64, include_usage: bool) -> impl Iterator<Item = Event> + Send {
    let (begin, end) = match api {
        Api::Chat => ends_of_chat(number, count, include_usage),
        Api::Messages => ends_of_message(number, count),
    };
    let aside = |text| Event { text, brings_words: false };
    let words = (0..count).map(move |word| Event { text: words(api, number, word, include_usage), brings_words: true });
    begin.into_iter().map(aside).chain(words).chain(end.into_iter().map(aside))
}

fn words(api: Api, number: u64, word: u64, include_usage: bool) -> String {
    match api {
        Api::Chat => chunk(number, &format!(r#"{{"content":" word {word} of {number}"}}"#), "null", include_usage),
        Api::Messages => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"index\":0,\
             \"delta\":{{\"type\":\"text_delta\",\"text\":\" word {word} of {number}\"}}}}\n\n"
        ),
    }
}

/// What comes before the words and behind them.
fn ends_of_chat(number: u64, count: u64, include_usage: bool) -> (Vec<String>, Vec<String>) {
    let begin = chunk(number, r#"{"role":"assistant","content":"","refusal":null}"#, "null", include_usage);
    let mut end = vec![chunk(number, "{}", "\"stop\"", include_usage)];
    if include_usage {
        end.push(format!(
            "data: {}\"choices\":[],\"usage\":{{\"prompt_tokens\":{PROMPT_TOKENS},\"completion_tokens\":{count},\
             \"total_tokens\":{},\"prompt_tokens_details\":{{\"cached_tokens\":0,\"audio_tokens\":0}},\
             \"completion_tokens_details\":{{\"reasoning_tokens\":0,\"audio_tokens\":0,\
             \"accepted_prediction_tokens\":0,\"rejected_prediction_tokens\":0}}}}}}\n\n",
            begin_of_chunk(number),
            PROMPT_TOKENS.unsigned_abs() + count
        ));
    }
    end.push("data: [DONE]\n\n".into());
    (vec![begin], end)
}

fn chunk(number: u64, delta: &str, finish: &str, include_usage: bool) -> String {
    let mut text = format!(
        "data: {}\"choices\":[{{\"index\":0,\"delta\":{delta},\"logprobs\":null,\"finish_reason\":{finish}}}]",
        begin_of_chunk(number)
    );
    let _ = write!(text, "{}}}\n\n", if include_usage { ",\"usage\":null" } else { "" });
    text
}

fn begin_of_chunk(number: u64) -> String {
    format!(
        "{{\"id\":\"chatcmpl-{number:029}\",\"object\":\"chat.completion.chunk\",\"created\":1795622400,\
         \"model\":\"{MODEL}-2024-07-18\",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_44709d6fcb\","
    )
}

fn ends_of_message(number: u64, count: u64) -> (Vec<String>, Vec<String>) {
    let event = |kind: &str, rest: &str| format!("event: {kind}\ndata: {{\"type\":\"{kind}\"{rest}}}\n\n");
    let message = format!(
        ",\"message\":{{\"model\":\"{STREAMING_MODEL}\",\"id\":\"msg_{number:024}\",\"type\":\"message\",\
         \"role\":\"assistant\",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\
         \"usage\":{{\"input_tokens\":31,\"cache_creation_input_tokens\":0,\"cache_read_input_tokens\":0,\
         \"cache_creation\":{{\"ephemeral_5m_input_tokens\":0,\"ephemeral_1h_input_tokens\":0}},\
         \"output_tokens\":1,\"service_tier\":\"standard\",\"inference_geo\":\"global\"}}}}"
    );
    let begin = vec![
        event("message_start", &message),
        event("content_block_start", ",\"index\":0,\"content_block\":{\"type\":\"text\",\"text\":\"\"}"),
        event("ping", ""),
    ];
    let usage = format!(
        ",\"delta\":{{\"stop_reason\":\"end_turn\",\"stop_sequence\":null}},\"usage\":{{\"output_tokens\":{}}}",
        4 * count
    );
    let end =
        vec![event("content_block_stop", ",\"index\":0"), event("message_delta", &usage), event("message_stop", "")];
    (begin, end)
}
