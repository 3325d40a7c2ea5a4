//! Hiding usage that was not asked for: nothing is added, and it is the same in one piece and in two.
#![no_main]

use berth_providers::UsageFilter;

libfuzzer_sys::fuzz_target!(|input: (usize, &[u8])| {
    let (cut, bytes) = input;
    let (head, tail) = bytes.split_at(cut % (bytes.len() + 1));
    let passed = |pieces: &[&[u8]]| {
        let mut hide = UsageFilter::default();
        let mut passed: Vec<u8> = pieces.iter().flat_map(|piece| hide.feed(piece)).collect();
        passed.extend(hide.finish());
        passed
    };
    let whole = passed(&[bytes]);
    assert!(whole.len() <= bytes.len());
    assert_eq!(whole, passed(&[head, tail]));
});
