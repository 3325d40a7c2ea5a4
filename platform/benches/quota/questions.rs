//! What callers ask, and how their SDKs write it down.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::peers::Peer;

pub const MODEL: &str = "gpt-4o-mini";
pub const STREAMING_MODEL: &str = "claude-haiku-4-5";
/// Of a chat completion that [`chat`] asks for.
pub const MOST_OUTPUT_TOKENS: i64 = 256;

/// An instance as its provider sees it: where it calls from, and with what.
#[derive(Clone, Serialize, Deserialize)]
pub struct Caller {
    pub source: Ipv4Addr,
    pub token: String,
}

/// A chat completion of a usual size, with `more` fields.
pub fn chat(more: &str) -> String {
    format!(
        r#"{{"model":"{MODEL}","messages":[{{"role":"system","content":"You are the assistant of a small bookshop. Answer in at most three sentences, in the customer's language, and name a book only when it is in stock. Never promise a day of delivery; say which day is likely. If you are not sure, say so and offer to ask a colleague."}},{{"role":"user","content":"Hello! I am looking for a present for my niece, who turns eleven next week. She has read all of Narnia twice and likes maps."}},{{"role":"assistant","content":"How lovely! For a reader who likes maps I would suggest A Wizard of Earthsea, which has one on its first page and is in stock. Does she read in English, or would you rather have a translation?"}},{{"role":"user","content":"English is fine. Is there a hardcover, and could it be wrapped and sent to Leeds before Friday?"}}],"temperature":0.2,"max_completion_tokens":{MOST_OUTPUT_TOKENS}{more}}}"#
    )
}

/// A message to be streamed; `user` is what the provider is told of the user, and what our upstream is directed by.
pub fn message(user: &str) -> String {
    format!(
        r#"{{"model":"{STREAMING_MODEL}","max_tokens":1024,"stream":true,"metadata":{{"user_id":"{user}"}},"system":"You are the assistant of a small bookshop.","messages":[{{"role":"user","content":"Which of your books have maps in them? Tell me a little about each."}}]}}"#
    )
}

/// The call for a chat completion, as OpenAI's SDK for Python makes it.
pub fn call(peer: &Peer, caller: &Caller, body: &str) -> Vec<u8> {
    format!(
        "POST {}/v1/chat/completions HTTP/1.1\r\nHost: {}\r\nAccept: application/json\r\n\
         Content-Type: application/json\r\nUser-Agent: OpenAI/Python 3.51.0\r\nX-Stainless-Lang: python\r\n\
         X-Stainless-Package-Version: 3.51.0\r\nX-Stainless-OS: Linux\r\nX-Stainless-Arch: x64\r\n\
         X-Stainless-Runtime: CPython\r\nX-Stainless-Runtime-Version: 3.12.3\r\nX-Stainless-Async: false\r\n\
         X-Stainless-Retry-Count: 0\r\nX-Stainless-Read-Timeout: 600\r\nAuthorization: Bearer {}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        peer.openai,
        peer.address,
        caller.token,
        body.len()
    )
    .into_bytes()
}

/// A question that costs nothing.
pub fn get(peer: &Peer, path: &str, caller: &Caller) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n", peer.address, caller.token)
        .into_bytes()
}
