//! Bodies of calls: whatever comes is understood or refused.
#![no_main]

use berth_providers::Api;
use berth_providers::ServiceTier;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    for api in [Api::Messages, Api::ChatCompletions, Api::Responses, Api::Embeddings] {
        let _ = api.read(bytes, ServiceTier::Standard);
    }
});
