//! Tests of the stream readers: recorded transcripts of each API in every split, and random or damaged streams.

use proptest::prelude::*;

use super::UsageReader;
use crate::Api;
use crate::UsageFilter;
use crate::{ServiceTier, Usage, UsageReport};

/// Every transcript of a stream, with the usage that it reports.
const TRANSCRIPTS: &[(Api, &str, Expected)] = &[
    (Api::Messages, "messages/cache", used([25, 100, 400, 1000, 42], 0, ServiceTier::Standard)),
    (Api::Messages, "messages/tools", used([472, 0, 0, 0, 89], 0, ServiceTier::Standard)),
    (Api::Messages, "messages/thinking", used([61, 0, 0, 0, 640], 0, ServiceTier::Standard)),
    (Api::Messages, "messages/web_search", used([10682, 120, 0, 0, 510], 1, ServiceTier::Standard)),
    (Api::Messages, "messages/odd", used([9, 0, 0, 0, 3], 0, ServiceTier::Standard)),
    (Api::Messages, "messages/error", Expected::Part { input_tokens: Some(25), output_tokens: 8 }),
    (Api::ChatCompletions, "chat/cache", used([3, 0, 0, 16, 10], 0, ServiceTier::Standard)),
    (Api::ChatCompletions, "chat/tools", used([82, 0, 0, 0, 17], 0, ServiceTier::Standard)),
    (Api::ChatCompletions, "chat/reasoning", used([93, 0, 0, 1024, 346], 0, ServiceTier::Standard)),
    (Api::ChatCompletions, "chat/odd", used([400, 600, 400, 100, 2], 0, ServiceTier::Standard)),
    (Api::ChatCompletions, "chat/error", Expected::Part { input_tokens: None, output_tokens: 5 }),
    (Api::Responses, "responses/text", used([52, 1600, 0, 2048, 11], 0, ServiceTier::Priority)),
    (Api::Responses, "responses/tools", used([291, 0, 0, 0, 151], 0, ServiceTier::Standard)),
    (Api::Responses, "responses/web_search", used([14000, 0, 0, 8000, 300], 2, ServiceTier::Standard)),
    (Api::Responses, "responses/incomplete", used([36, 0, 0, 0, 16], 0, ServiceTier::Standard)),
    (Api::Responses, "responses/odd", used([10, 0, 0, 0, 5], 0, ServiceTier::Flex)),
    (Api::Responses, "responses/failed", Expected::Part { input_tokens: None, output_tokens: 2 }),
    (Api::Responses, "responses/error", Expected::Part { input_tokens: None, output_tokens: 5 }),
];

#[derive(Clone, Copy)]
enum Expected {
    Final(Usage),
    Part { input_tokens: Option<u64>, output_tokens: u64 },
}

/// Tokens in this order: uncached input, short cache writes, long cache writes, cache reads, output.
const fn used(tokens: [u64; 5], web_searches: u64, tier: ServiceTier) -> Expected {
    let [input_tokens, cache_write_tokens, cache_write_long_tokens, cache_read_tokens, output_tokens] = tokens;
    Expected::Final(Usage {
        input_tokens,
        cache_write_tokens,
        cache_write_long_tokens,
        cache_read_tokens,
        output_tokens,
        web_searches,
        tier,
        in_us: false,
        unpriced: false,
    })
}

fn transcript(name: &str) -> Vec<u8> {
    std::fs::read(format!("{}/tests/transcripts/{name}.sse", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// `bytes` cut at each of `cuts`.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).chain([0, bytes.len()]).collect();
    cuts.sort_unstable();
    cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

fn read(api: Api, pieces: &[&[u8]]) -> UsageReader {
    let mut reader = UsageReader::new(api);
    pieces.iter().for_each(|piece| reader.feed(piece));
    reader.finish();
    reader
}

fn check(name: &str, reader: &UsageReader, expected: Expected) {
    assert!(reader.is_over(), "{name}");
    match (expected, reader.reading().report) {
        (Expected::Final(expected), UsageReport::Final(usage)) => {
            assert_eq!(usage, expected, "{name}");
            assert!(reader.is_complete(), "{name}");
        }
        (Expected::Part { input_tokens, output_tokens }, UsageReport::Part { usage, output_tokens: seen }) => {
            assert_eq!((usage.map(|usage| usage.input_tokens), seen), (input_tokens, output_tokens), "{name}");
            assert!(!reader.is_complete(), "{name}");
        }
        (_, seen) => panic!("{name}: {seen:?}"),
    }
}

#[test]
fn every_transcript_reports_its_usage_whole_and_byte_by_byte() {
    for (api, name, expected) in TRANSCRIPTS {
        let bytes = transcript(name);
        check(name, &read(*api, &[&bytes]), *expected);
        check(name, &read(*api, &bytes.chunks(1).collect::<Vec<_>>()), *expected);
    }
}

#[test]
fn the_usage_filter_restores_the_plain_stream_whole_and_byte_by_byte() {
    for (_, name, _) in TRANSCRIPTS.iter().filter(|(api, ..)| *api == Api::ChatCompletions) {
        let (bytes, plain) = (transcript(name), transcript(&format!("{name}.plain")));
        for size in [1, 2, 7, 100, bytes.len()] {
            let mut hide = UsageFilter::default();
            let mut seen: Vec<u8> = bytes.chunks(size).flat_map(|piece| hide.feed(piece)).collect();
            seen.extend(hide.finish());
            assert_eq!(String::from_utf8_lossy(&seen), String::from_utf8_lossy(&plain), "{name} in pieces of {size}");
        }
    }
}

const APIS: [Api; 3] = [Api::Messages, Api::ChatCompletions, Api::Responses];

#[test]
fn an_endless_stream_is_not_buffered_without_bound() {
    for api in APIS {
        for line in [&b"data: 0123456789abcdef\n"[..], b"x", b": comment\n", b"data: [1,\r"] {
            let mut reader = UsageReader::new(api);
            let piece = line.repeat(64 * 1024 / line.len());
            for _ in 0..400 {
                reader.feed(&piece);
            }
            assert!(reader.buffered_bytes() <= 24 * 1024 * 1024, "{api:?}: {}", reader.buffered_bytes());
        }
    }
}

proptest! {
    #[test]
    fn a_transcript_reads_the_same_in_any_split(which in 0..TRANSCRIPTS.len(), cuts in proptest::collection::vec(0..10_000_usize, 0..20)) {
        let (api, name, expected) = TRANSCRIPTS[which];
        let bytes = transcript(name);
        check(name, &read(api, &pieces(&bytes, &cuts)), expected);
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), cuts in proptest::collection::vec(0..2000_usize, 0..10)) {
        for api in APIS {
            let reader = read(api, &pieces(&bytes, &cuts));
            let _ = (reader.reading(), super::usage_of_response(api, &bytes));
        }
        let mut hide = UsageFilter::default();
        let passed: usize = pieces(&bytes, &cuts).iter().map(|piece| hide.feed(piece).len()).sum();
        prop_assert!(passed + hide.finish().len() <= bytes.len());
    }

    /// A damaged transcript stops no reader either.
    #[test]
    fn a_transcript_with_wrong_bytes_in_it_is_read_to_its_end(which in 0..TRANSCRIPTS.len(), wrong in proptest::collection::vec((0..10_000_usize, any::<u8>()), 1..5), cut in 0..10_000_usize) {
        let (api, name, _) = TRANSCRIPTS[which];
        let mut bytes = transcript(name);
        let length = bytes.len();
        wrong.iter().for_each(|(at, byte)| bytes[at % length] = *byte);
        bytes.truncate(cut % (length + 1));
        let (whole, split) = (read(api, &[&bytes]), read(api, &bytes.chunks(3).collect::<Vec<_>>()));
        prop_assert_eq!(whole.reading(), split.reading());
    }
}
