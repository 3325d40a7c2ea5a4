//! Usage parser for OpenAI's Responses: part of the response object, which the last event of a stream repeats.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::figures::{length, served_in};
use super::stream_progress::StreamProgress;
use crate::{Usage, UsageReport};

#[derive(Deserialize)]
struct ResponseEvent<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Cow<'a, str>,
    /// The added piece of text, tool arguments, or reasoning summary.
    #[serde(borrow)]
    delta: Option<Cow<'a, str>>,
    #[serde(borrow)]
    item: Option<OutputItem<'a>>,
    #[serde(borrow)]
    response: Option<ResponseObject<'a>>,
}

#[derive(Deserialize)]
struct ResponseObject<'a> {
    #[serde(borrow)]
    status: Option<Cow<'a, str>>,
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    service_tier: Option<Cow<'a, str>>,
    tool_usage: Option<ToolUsage>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct ToolUsage {
    web_search: Option<SearchCount>,
}

/// The provider's count of billed searches.
#[derive(Deserialize)]
struct SearchCount {
    num_requests: u64,
}

#[derive(Deserialize)]
struct OutputItem<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<Cow<'a, str>>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct SearchAction<'a> {
    #[serde(borrow, rename = "type")]
    kind: Cow<'a, str>,
}

impl OutputItem<'_> {
    /// Whether the item is a billed search. Opening a result page and searching within it are free.
    fn is_search(&self) -> bool {
        let is_free = |action: &RawValue| {
            let action = serde_json::from_str::<SearchAction<'_>>(action.get());
            action.is_ok_and(|action| ["open_page", "find_in_page"].contains(&&*action.kind))
        };
        self.kind.as_deref() == Some("web_search_call") && !self.action.is_some_and(is_free)
    }
}

/// Reads one event of a stream.
pub(super) fn take(data: &[u8], progress: &mut StreamProgress) {
    let Ok(frame) = serde_json::from_slice::<ResponseEvent<'_>>(data) else { return progress.add_unparsed(data.len()) };
    progress.answer_bytes += length(frame.delta.as_deref());
    match &*frame.kind {
        "response.output_item.done" => {
            progress.web_searches += u64::from(frame.item.is_some_and(|item| item.is_search()));
        }
        "response.completed" | "response.incomplete" | "response.failed" | "response.cancelled" => {
            progress.is_over = true;
            progress.failed |= matches!(&*frame.kind, "response.failed" | "response.cancelled");
            let Some((answer, raw)) = frame.response.and_then(|answer| answer.usage.map(|raw| (answer, raw))) else {
                return;
            };
            progress.keep_raw(raw);
            progress.usage = answer.read_usage();
            // Also for a failed response: its reported figures are charged.
            progress.is_final = progress.usage.is_some();
        }
        "error" => {
            progress.failed = true;
            progress.is_over = true;
        }
        // Repetitions of the deltas, progress events, and unknown events.
        _ => {}
    }
}

#[derive(Deserialize)]
struct ResponsesUsage {
    input_tokens: u64,
    output_tokens: u64,
    input_tokens_details: Option<InputDetails>,
}

#[derive(Default, Deserialize)]
struct InputDetails {
    cached_tokens: Option<u64>,
    cache_write_tokens: Option<u64>,
    cache_write_tokens_details: Option<CacheWriteDetails>,
}

#[derive(Deserialize)]
struct CacheWriteDetails {
    ttl_12h_tokens: Option<u64>,
}

impl ResponseObject<'_> {
    /// Converts the figures. `input_tokens` includes cache reads and writes, unlike Anthropic's.
    fn read_usage(&self) -> Option<Usage> {
        let figures: ResponsesUsage = serde_json::from_str(self.usage?.get()).ok()?;
        let input = figures.input_tokens_details.unwrap_or_default();
        // `min` prevents an underflow in the differences below when the provider's figures contradict each other.
        let read = input.cached_tokens.unwrap_or(0).min(figures.input_tokens);
        let written = input.cache_write_tokens.unwrap_or(0).min(figures.input_tokens - read);
        let long = input.cache_write_tokens_details.and_then(|d| d.ttl_12h_tokens).unwrap_or(0).min(written);
        let tier = served_in(self.service_tier.as_deref());
        let searches = self.web_searches();
        Some(Usage {
            input_tokens: figures.input_tokens - read - written,
            cache_write_tokens: written - long,
            cache_write_long_tokens: long,
            cache_read_tokens: read,
            output_tokens: figures.output_tokens,
            web_searches: searches.unwrap_or(0),
            tier: tier.unwrap_or_default(),
            in_us: false,
            unpriced: tier.is_none() || searches.is_none(),
        })
    }

    /// The searches as counted by the provider, or else by the items of the response. `None` when the items are
    /// unreadable.
    fn web_searches(&self) -> Option<u64> {
        let counted = self.tool_usage.as_ref().and_then(|tools| tools.web_search.as_ref());
        match (counted, self.output) {
            (Some(searches), _) => Some(searches.num_requests),
            (None, None) => Some(0),
            (None, Some(output)) => {
                let items: Vec<OutputItem<'_>> = serde_json::from_str(output.get()).ok()?;
                u64::try_from(items.iter().filter(|item| item.is_search()).count()).ok()
            }
        }
    }
}

pub(super) fn of_response(body: &[u8]) -> Option<(UsageReport, &str)> {
    let answer: ResponseObject<'_> = serde_json::from_slice(body).ok()?;
    match answer.read_usage() {
        Some(usage) => Some((UsageReport::Final(usage), answer.usage?.get())),
        // A failed response without figures had no output, but the provider has read the input.
        None if answer.status.as_deref() == Some("failed") && answer.usage.is_none() => {
            Some((UsageReport::Part { usage: None, output_tokens: 0 }, ""))
        }
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::UsageReader;
    use super::*;
    use crate::Api;
    use crate::ServiceTier;

    const USAGE: &str = r#""usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":20,"cache_write_tokens":30,"cache_write_tokens_details":{"ttl_30m_tokens":25,"ttl_12h_tokens":5}},"output_tokens":7,"total_tokens":107}"#;

    fn usage() -> Usage {
        Usage {
            input_tokens: 50,
            cache_write_tokens: 25,
            cache_write_long_tokens: 5,
            cache_read_tokens: 20,
            output_tokens: 7,
            ..Usage::default()
        }
    }

    fn read(stream: &str) -> UsageReader {
        let mut reader = UsageReader::new(Api::Responses);
        reader.feed(stream.as_bytes());
        reader
    }

    #[test]
    fn the_last_event_reports_usage_and_tier_however_the_stream_ended() {
        for (event, complete) in [("completed", true), ("incomplete", true), ("failed", false)] {
            let reader = read(&format!(
                "event: response.{event}\ndata: {{\"type\":\"response.{event}\",\"response\":{{\"service_tier\":\"priority\",{USAGE}}}}}\n\n"
            ));
            assert!(reader.is_over() && reader.is_complete() == complete, "{event}");
            assert_eq!(
                reader.reading().report,
                UsageReport::Final(Usage { tier: ServiceTier::Priority, ..usage() }),
                "{event}"
            );
        }
        let unknown = read(&format!(
            "data: {{\"type\":\"response.completed\",\"response\":{{\"service_tier\":\"warp\",{USAGE}}}}}\n\n"
        ));
        assert_eq!(unknown.reading().report, UsageReport::Final(Usage { unpriced: true, ..usage() }));
    }

    #[test]
    fn searches_are_counted_by_the_provider_or_else_by_the_items() {
        let output = r#""output":[{"type":"web_search_call","action":{"type":"search"}},{"type":"web_search_call","action":{"type":"open_page"}},{"type":"message","content":[]}]"#;
        let counted = format!(r#"{{"tool_usage":{{"web_search":{{"num_requests":4}}}},{output},{USAGE}}}"#);
        let by_one = format!(r#"{{{output},{USAGE}}}"#);
        for (body, searches) in [(counted, 4), (by_one, 1)] {
            let Some((UsageReport::Final(seen), _)) = of_response(body.as_bytes()) else { panic!("not read: {body}") };
            assert_eq!(seen, Usage { web_searches: searches, ..usage() });
        }
    }

    #[test]
    fn a_failed_response_is_a_part_and_one_without_figures_is_unreadable() {
        assert_eq!(
            of_response(br#"{"status":"failed","usage":null}"#),
            Some((UsageReport::Part { usage: None, output_tokens: 0 }, ""))
        );
        assert_eq!(of_response(br#"{"status":"completed","usage":null}"#), None);
        let reader = read(
            "data: {\"type\":\"response.output_text.delta\",\"delta\":\"four\"}\n\ndata: {\"type\":\"error\"}\n\n",
        );
        assert!(reader.is_over() && !reader.is_complete());
        assert_eq!(reader.reading().report, UsageReport::Part { usage: None, output_tokens: 2 });
    }
}
