//! Fuzz target: the usage filter adds no bytes, and passes the same ones in one chunk and in two.
#![no_main]

use berth_providers::UsageFilter;

libfuzzer_sys::fuzz_target!(|input: (usize, &[u8])| {
    let (cut, bytes) = input;
    let (head, tail) = bytes.split_at(cut % (bytes.len() + 1));
    let passed = |pieces: &[&[u8]]| {
        let mut filter = UsageFilter::default();
        let mut passed: Vec<u8> = pieces.iter().flat_map(|piece| filter.feed(piece)).collect();
        passed.extend(filter.finish());
        passed
    };
    let whole = passed(&[bytes]);
    assert!(whole.len() <= bytes.len());
    assert_eq!(whole, passed(&[head, tail]));
});
