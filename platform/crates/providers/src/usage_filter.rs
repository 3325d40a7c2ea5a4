//! The usage filter for OpenAI streams: removes the usage figures that the proxy requested and the client did not. All
//! other bytes pass unchanged.

use bytes::Bytes;

use super::splice::{self, ChunkEdit};

/// The longest SSE frame that is parsed, in bytes; longer ones pass unchanged. Usual chunks have a few hundred bytes.
const MAX_FRAME: usize = 1024 * 1024;

/// The state of the filter. It buffers at most one incomplete frame.
#[derive(Default)]
pub struct UsageFilter {
    pending: Vec<u8>,
    /// The start of the current line within `pending`.
    line_start: usize,
}

impl UsageFilter {
    /// Takes the next bytes of the stream and returns those that may go on to the client, possibly none.
    pub fn feed(&mut self, bytes: &[u8]) -> Bytes {
        let mut out = Vec::with_capacity(bytes.len());
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.pending.extend_from_slice(part);
            if !part.ends_with(b"\n") {
                // An unterminated line is passed on unparsed, so that the buffer stays bounded.
                if self.pending.len() > MAX_FRAME {
                    out.append(&mut self.pending);
                    self.line_start = 0;
                }
                continue;
            }
            let line_is_empty = matches!(&self.pending[self.line_start..], b"\n" | b"\r\n");
            self.line_start = self.pending.len();
            if line_is_empty || self.pending.len() > MAX_FRAME {
                push_frame(&self.pending, &mut out);
                self.pending.clear();
                self.line_start = 0;
            }
        }
        out.into()
    }

    /// Returns the buffered bytes when the stream ends in the middle of a frame.
    pub fn finish(&mut self) -> Bytes {
        self.line_start = 0;
        std::mem::take(&mut self.pending).into()
    }
}

fn push_frame(frame: &[u8], out: &mut Vec<u8>) {
    let (mut kept, mut is_dropped) = (Vec::with_capacity(frame.len()), false);
    for line in frame.split_inclusive(|byte| *byte == b'\n') {
        let (head, json, tail) = data_of(line);
        match splice::without_usage(json) {
            ChunkEdit::Keep => kept.extend_from_slice(line),
            ChunkEdit::Replace(json) => kept.extend([head, &json, tail].concat()),
            ChunkEdit::Drop => is_dropped = true,
        }
    }
    // A dropped chunk takes along the empty line that ends its frame.
    if !is_dropped {
        out.append(&mut kept);
    }
}

/// Splits a line `data: JSON` into the prefix, the JSON, and the line ending.
fn data_of(line: &[u8]) -> (&[u8], &[u8], &[u8]) {
    let Some(rest) = line.strip_prefix(b"data:") else { return (line, b"", b"") };
    // The space after the colon is optional (WHATWG HTML section 9.2.6).
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
        for _ in 0..3 * MAX_FRAME / 4096 {
            seen += hide.feed(&[b'x'; 4096]).len();
            assert!(hide.pending.len() <= MAX_FRAME);
        }
        assert_eq!(seen + hide.finish().len(), 3 * MAX_FRAME);
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
