//! Fuzz target: the usage of a chat completions stream reads the same in one chunk and in two.
#![no_main]

use berth_providers::{Api, UsageReader};

libfuzzer_sys::fuzz_target!(|input: (usize, &[u8])| {
    let (cut, bytes) = input;
    let (head, tail) = bytes.split_at(cut % (bytes.len() + 1));
    let (mut whole, mut split) = (UsageReader::new(Api::ChatCompletions), UsageReader::new(Api::ChatCompletions));
    whole.feed(bytes);
    whole.finish();
    split.feed(head);
    split.feed(tail);
    split.finish();
    assert_eq!(whole.reading(), split.reading());
    let _ = berth_providers::usage_of_response(Api::ChatCompletions, bytes);
});
