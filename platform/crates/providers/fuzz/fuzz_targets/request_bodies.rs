//! Fuzz target: any request body is either parsed or refused, without a panic.
#![no_main]

use berth_providers::{Api, ServiceTier};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for api in [Api::Messages, Api::ChatCompletions, Api::Responses, Api::Embeddings] {
        let _ = api.read(bytes, ServiceTier::Standard);
    }
});
