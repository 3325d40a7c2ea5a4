//! Splits a stream of server-sent events into the data of each event, in whatever pieces it comes
//! (WHATWG HTML 9.2.6: lines end in LF, CR or CRLF; an empty line ends an event).

/// Longer data is counted, not kept. Frames that carry usage have a few hundred bytes.
const LONGEST: usize = 1024 * 1024;

/// One event.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    Data(&'a [u8]),
    /// Too long to keep; its size in bytes.
    TooLong(usize),
}

#[derive(Default)]
pub struct Events {
    line: Vec<u8>,
    /// Bytes of the present line that were not kept.
    dropped: usize,
    data: Vec<u8>,
    has_data: bool,
    dropped_data: usize,
    after_cr: bool,
}

impl Events {
    /// Takes the next piece and calls `each` for every event that ends in it.
    pub fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(Event<'_>)) {
        let mut rest = bytes;
        if self.after_cr && !rest.is_empty() {
            self.after_cr = false;
            rest = rest.strip_prefix(b"\n").unwrap_or(rest);
        }
        while let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) {
            self.push(&rest[..end]);
            self.end_line(each);
            let was_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            if was_cr {
                self.after_cr = rest.is_empty();
                rest = rest.strip_prefix(b"\n").unwrap_or(rest);
            }
        }
        self.push(rest);
    }

    /// The stream is over; an event that was not closed by an empty line counts all the same.
    pub fn finish(&mut self, each: &mut impl FnMut(Event<'_>)) {
        self.end_line(each);
        self.end_event(each);
    }

    fn push(&mut self, bytes: &[u8]) {
        let room = LONGEST.saturating_sub(self.line.len()).min(bytes.len());
        self.line.extend_from_slice(&bytes[..room]);
        self.dropped += bytes.len() - room;
    }

    fn end_line(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if self.line.is_empty() {
            self.end_event(each);
        } else if let Some(value) = self.line.strip_prefix(b"data:") {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            if self.has_data {
                self.data.push(b'\n');
            }
            self.has_data = true;
            if self.dropped > 0 || self.data.len() + value.len() > LONGEST {
                self.dropped_data += value.len() + self.dropped;
            } else {
                self.data.extend_from_slice(value);
            }
        }
        self.line.clear();
        self.dropped = 0;
    }

    fn end_event(&mut self, each: &mut impl FnMut(Event<'_>)) {
        if self.dropped_data > 0 {
            each(Event::TooLong(self.dropped_data + self.data.len()));
        } else if self.has_data {
            each(Event::Data(&self.data));
        }
        self.data.clear();
        self.has_data = false;
        self.dropped_data = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(stream: &[u8], size: usize) -> Vec<String> {
        let mut seen = Vec::new();
        let mut each = |event: Event<'_>| match event {
            Event::Data(data) => seen.push(String::from_utf8_lossy(data).into_owned()),
            Event::TooLong(bytes) => seen.push(format!("{bytes} bytes")),
        };
        let mut events = Events::default();
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
        stream.resize(3 * LONGEST, b'x');
        stream.extend(b"\n\ndata: 1\n\n");
        assert_eq!(events(&stream, 4096), [format!("{} bytes", 3 * LONGEST - 6), "1".into()]);
    }
}
