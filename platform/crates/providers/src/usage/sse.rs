//! A streaming parser of server-sent events (SSE): yields the data of each event, independent of how the stream is cut
//! into chunks.
//!
//! In WHATWG HTML section 9.2.6 a line ends in LF, CR or CRLF, and an empty line ends an event.

use memchr::memchr2;

/// The most data of one event that is buffered, in bytes; longer data is only counted. Most events with usage have a
/// few hundred bytes, but the last event of a Responses stream repeats the whole answer and all tool definitions.
const MAX_DATA: usize = 8 * 1024 * 1024;

/// A server-sent event.
#[derive(Debug, PartialEq, Eq)]
pub enum SseEvent<'a> {
    Data(&'a [u8]),
    /// An event longer than the buffer, with its length in bytes.
    TooLong(usize),
}

/// The state of the parser.
#[derive(Default)]
pub struct SseSplitter {
    /// The buffered start of an incomplete line.
    line: Vec<u8>,
    /// Bytes of that line beyond the buffer's limit.
    dropped: usize,
    /// The `data:` lines of the current event, joined by LF.
    data: Vec<u8>,
    has_data: bool,
    dropped_data: usize,
    /// Whether the last chunk ended in CR. A LF at the start of the next chunk then belongs to the same line ending.
    after_cr: bool,
}

impl SseSplitter {
    /// Takes the next chunk of the stream and calls `each` for every event that ends in it.
    pub fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(SseEvent<'_>)) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = memchr2(b'\n', b'\r', rest) {
            let (line, was_cr) = (&rest[..end], rest[end] == b'\r');
            rest = &rest[end + 1..];
            if was_cr {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
            // The line began in an earlier chunk.
            if !self.line.is_empty() || self.dropped > 0 {
                self.push(line);
                self.end_line(each);
            } else if let Some(data) = data_of(line).filter(|data| !self.has_data && data.len() <= MAX_DATA)
                && let Some(after) = rest.strip_prefix(b"\n")
            {
                // Fast path for the usual event: a single line that is complete in this chunk is not copied.
                rest = after;
                each(SseEvent::Data(data));
            } else {
                self.take_line(line, 0, each);
            }
        }
        self.push(rest);
    }

    /// Ends the stream. An event without its closing empty line counts too: the standard discards it, but it may
    /// contain the usage.
    pub fn finish(&mut self, each: &mut impl FnMut(SseEvent<'_>)) {
        self.end_line(each);
        self.end_event(each);
    }

    #[cfg(test)]
    pub(super) fn buffered_bytes(&self) -> usize {
        self.line.capacity() + self.data.capacity()
    }

    fn push(&mut self, bytes: &[u8]) {
        let kept = MAX_DATA.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..kept]);
        self.dropped += bytes.len() - kept;
    }

    fn end_line(&mut self, each: &mut impl FnMut(SseEvent<'_>)) {
        // The buffer is taken out and put back, so that it is allocated once per stream.
        let mut line = std::mem::take(&mut self.line);
        let dropped = std::mem::take(&mut self.dropped);
        self.take_line(&line, dropped, each);
        line.clear();
        self.line = line;
    }

    fn take_line(&mut self, line: &[u8], dropped: usize, each: &mut impl FnMut(SseEvent<'_>)) {
        if line.is_empty() {
            self.end_event(each);
        // Comments and the fields `event`, `id` and `retry` are ignored: both providers repeat the type in the data.
        } else if let Some(value) = data_of(line) {
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            // Once the event is too long, only its length is tracked.
            if dropped > 0 || self.data.len() + value.len() > MAX_DATA {
                self.dropped_data += value.len() + dropped;
            } else {
                self.data.extend_from_slice(value);
            }
        }
    }

    fn end_event(&mut self, each: &mut impl FnMut(SseEvent<'_>)) {
        if self.dropped_data > 0 {
            each(SseEvent::TooLong(self.dropped_data + self.data.len()));
        } else if self.has_data {
            each(SseEvent::Data(&self.data));
        }
        self.data.clear();
        self.has_data = false;
        self.dropped_data = 0;
    }
}

fn data_of(line: &[u8]) -> Option<&[u8]> {
    let value = line.strip_prefix(b"data:")?;
    Some(value.strip_prefix(b" ").unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &[u8], size: usize) -> Vec<String> {
        let mut seen = Vec::new();
        let mut each = |event: SseEvent<'_>| match event {
            SseEvent::Data(data) => seen.push(String::from_utf8_lossy(data).into_owned()),
            SseEvent::TooLong(bytes) => seen.push(format!("{bytes} bytes")),
        };
        let mut events = SseSplitter::default();
        for piece in stream.chunks(size) {
            events.feed(piece, &mut each);
        }
        events.finish(&mut each);
        seen
    }

    #[test]
    fn events_are_the_same_in_every_split() {
        let stream = b"event: a\ndata: 1\n\n: ping\n\ndata:2\r\ndata: 3\r\n\r\ndata: 4\r\rid: x\n\ndata: 5";
        for size in 1..=stream.len() {
            assert_eq!(events(stream, size), ["1", "2\n3", "4", "5"], "in pieces of {size}");
        }
    }

    #[test]
    fn an_endless_line_is_counted_and_not_kept() {
        let mut stream = b"data: ".to_vec();
        stream.resize(3 * MAX_DATA, b'x');
        stream.extend(b"\n\ndata: 1\n\n");
        assert_eq!(events(&stream, 4096), [format!("{} bytes", 3 * MAX_DATA - 6), "1".into()]);
    }
}
