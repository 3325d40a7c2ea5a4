//! Takes out of an OpenAI stream what is only there because the proxy asked for usage: whole frames are looked at
//! one by one, and all others pass as they came.

use bytes::Bytes;

use super::splice::{self, ChunkEdit};

/// A frame longer than this passes unseen; chunks have a few hundred bytes.
const LONGEST_FRAME: usize = 1024 * 1024;

/// Holds back at most one frame that has not come to its end.
#[derive(Default)]
pub struct UsageFilter {
    pending: Vec<u8>,
    /// Where in `pending` the present line begins.
    line: usize,
}

impl UsageFilter {
    /// Takes what came and gives what may go on, perhaps nothing yet.
    pub fn feed(&mut self, bytes: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(bytes.len());
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                if self.pending.len() > LONGEST_FRAME {
                    out.append(&mut self.pending);
                    self.line = 0;
                }
                continue;
            }
            let line_is_empty = matches!(&self.pending[self.line..], b"\n" | b"\r\n");
            self.line = self.pending.len();
            if line_is_empty || self.pending.len() > LONGEST_FRAME {
                push_frame(&self.pending, &mut out);
                self.pending.clear();
                self.line = 0;
            }
        }
        out.into()
    }

    /// What is left when the stream ends within a frame.
    pub fn finish(&mut self) -> Bytes {
        self.line = 0;
        std::mem::take(&mut self.pending).into()
    }
}

fn push_frame(frame: &[u8], out: &mut Vec<u8>) {
    let (mut kept, mut hidden) = (Vec::with_capacity(frame.len()), false);
    for line in frame.split_inclusive(|byte| *byte == b'\n') {
        let (head, json, tail) = data_of(line);
        match splice::hide_usage(json) {
            ChunkEdit::AsItIs => kept.extend_from_slice(line),
            ChunkEdit::Without(json) => kept.extend([head, &json, tail].concat()),
            ChunkEdit::Usage => hidden = true,
        }
    }
    if !hidden {
        out.append(&mut kept);
    }
}

/// A line `data: JSON` in three: what stands before the JSON, the JSON, and the end of the line.
fn data_of(line: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let Some(rest) = line.strip_prefix(b"data:") else { return (line, b"", b"") };
    let head = 5 + rest.iter().take_while(|byte| **byte == b' ').count();
    let tail = line.len() - line.iter().rev().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
    if tail < head { (line, b"", b"") } else { (&line[..head], &line[head..tail], &line[tail..]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UPSTREAM: &str = concat!(
        ": a comment\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\\n\"}}],\"usage\":null}\n\n",
        "data: {\"choices\":[{\"delta\":{}}],\"usage\":null,\"obfuscation\":\"xy\"}\r\n\r\n",
        "data: {\"choices\":[],\"usage\":{\"total_tokens\":3}}\n\n",
        "data: [DONE]\n\n",
        "data: {\"half\""
    );
    const CLIENT: &str = concat!(
        ": a comment\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"a\\n\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{}}],\"obfuscation\":\"xy\"}\r\n\r\n",
        "data: [DONE]\n\n",
        "data: {\"half\""
    );

    #[test]
    fn an_endless_line_passes_and_is_not_kept() {
        let (mut hide, mut seen) = (UsageFilter::default(), 0);
        for _ in 0..3 * LONGEST_FRAME / 4096 {
            seen += hide.feed(&[b'x'; 4096]).len();
            assert!(hide.pending.len() <= LONGEST_FRAME);
        }
        assert_eq!(seen + hide.finish().len(), 3 * LONGEST_FRAME);
    }

    #[test]
    fn the_client_sees_what_it_would_have_seen_wherever_the_stream_is_cut() {
        for size in 1..=UPSTREAM.len() {
            let mut hide = UsageFilter::default();
            let mut seen = Vec::new();
            for piece in UPSTREAM.as_bytes().chunks(size) {
                seen.extend_from_slice(&hide.feed(piece));
            }
            seen.extend_from_slice(&hide.finish());
            assert_eq!(String::from_utf8(seen).unwrap(), CLIENT, "in pieces of {size}");
        }
    }
}
