//! Activity detection: tells application data from keep-alive traffic (WebSocket pings, comments in event streams) in
//! passing bytes.
//!
//! Keep-alive traffic must not keep an instance awake: browsers and proxies send it for as long as a page is open. The
//! parsers only observe: they change, hold back and await no byte, however the stream is cut into pieces.

use axum::http::{HeaderMap, HeaderValue, header};

/// The parser for one direction of one connection.
pub(super) enum ActivityDetector {
    /// Unknown protocol: every byte is activity.
    AnyBytes,
    EventStream(EventStreamParser),
    WebSocket(WebSocketParser),
}

impl ActivityDetector {
    /// The detector for the body of a response with these headers.
    pub(super) fn for_response(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes).trim_ascii_start();
        let is_events = kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
        // Compressed events are not decompressed for this. Every byte then counts, which errs on the side of staying
        // awake.
        if is_events && !headers.contains_key(header::CONTENT_ENCODING) {
            Self::EventStream(EventStreamParser::LineBegins)
        } else {
            Self::AnyBytes
        }
    }

    /// The detector for a connection upgraded to `protocol`, the value of the response's `Upgrade` header.
    pub(super) fn for_upgrade(protocol: &HeaderValue) -> Self {
        if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
            Self::WebSocket(WebSocketParser::default())
        } else {
            Self::AnyBytes
        }
    }

    /// Reads the next `bytes` and tells whether they hold application data, or a part of it.
    pub(super) fn is_activity(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::AnyBytes => !bytes.is_empty(),
            Self::EventStream(events) => events.is_activity(bytes),
            Self::WebSocket(frames) => frames.is_activity(bytes),
        }
    }

    /// Whether a Close frame may be sent now: on a WebSocket, between two frames, before a Close frame has passed. A
    /// frame inserted into another would be read as its payload.
    pub(super) fn may_send_close(&self) -> bool {
        matches!(
            self,
            Self::WebSocket(WebSocketParser { has_closed: false, position: FramePosition::Header { have: 0, .. } })
        )
    }
}

/// The parser of server-sent events (WHATWG HTML 9.2.6). It distinguishes only the kinds of lines.
///
/// A line that begins with a colon is a comment. Like an empty line it is a keep-alive. Any other line is a field of an
/// event.
pub(super) enum EventStreamParser {
    LineBegins,
    InComment,
    InField,
}

impl EventStreamParser {
    fn is_activity(&mut self, bytes: &[u8]) -> bool {
        let mut is_activity = false;
        for byte in bytes {
            *self = match (&self, byte) {
                // CR, LF and CRLF all end a line. CRLF passes here twice, which makes no difference.
                (_, b'\n' | b'\r') => Self::LineBegins,
                (Self::LineBegins, b':') | (Self::InComment, _) => Self::InComment,
                (Self::LineBegins | Self::InField, _) => Self::InField,
            };
            is_activity |= matches!(self, Self::InField);
        }
        is_activity
    }
}

/// The parser of WebSocket frames (RFC 6455 5.2) in one direction.
///
/// The payload of data frames is activity, in one frame or in fragments. Ping, Pong and Close frames are not, nor are
/// empty frames. The payload is never unmasked: length and opcode are enough.
#[derive(Default)]
pub(super) struct WebSocketParser {
    position: FramePosition,
    /// Whether a Close frame has passed. No frame may follow it (RFC 6455 5.5.1).
    has_closed: bool,
}

enum FramePosition {
    /// Inside a frame's header, of which the first `have` bytes have arrived. They are kept because a read may end
    /// anywhere in a header.
    Header {
        bytes: [u8; LONGEST_HEADER],
        have: u8,
    },
    Payload {
        left: u64,
        is_data: bool,
    },
    /// The bytes are no WebSocket frames. The start of the next frame cannot be found again, so all further bytes
    /// count.
    Invalid,
}

/// Two bytes, eight of extended length, four of masking key (RFC 6455 5.2).
const LONGEST_HEADER: usize = 14;

impl Default for FramePosition {
    fn default() -> Self {
        Self::Header { bytes: [0; LONGEST_HEADER], have: 0 }
    }
}

impl WebSocketParser {
    fn is_activity(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_activity = false;
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.position {
                FramePosition::Invalid => return true,
                FramePosition::Header { bytes: header, have } => {
                    header[usize::from(*have)] = *first;
                    *have += 1;
                    bytes = rest;
                    if let Some(header) = FrameHeader::read(&header[..usize::from(*have)]) {
                        self.has_closed |= header.opcode == CLOSE;
                        self.position = header.position_after();
                    }
                }
                FramePosition::Payload { left, is_data } => {
                    // A whole run of payload is skipped at once: its length does not matter.
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    is_activity |= *is_data;
                    *left -= here as u64;
                    bytes = &bytes[here..];
                    if *left == 0 {
                        self.position = FramePosition::default();
                    }
                }
            }
        }
        is_activity
    }
}

/// The opcode of a Close frame. Opcodes below 3 are data frames, 9 and 10 are Ping and Pong (RFC 6455 11.8).
const CLOSE: u8 = 8;

struct FrameHeader {
    is_final: bool,
    opcode: u8,
    payload: u64,
}

impl FrameHeader {
    /// Parses a header; `None` while `bytes` holds only a part of it.
    fn read(bytes: &[u8]) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else { return None };
        let extended = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let mask = if second & 0x80 == 0 { 0 } else { 4 };
        if rest.len() < extended + mask {
            return None;
        }
        let length = |bytes: &[u8]| bytes.iter().fold(0, |length: u64, byte| (length << 8) | u64::from(*byte));
        let payload = if extended == 0 { u64::from(second & 0x7f) } else { length(&rest[..extended]) };
        Some(Self { is_final: first & 0x80 != 0, opcode: first & 0x0f, payload })
    }

    /// The position after this header.
    fn position_after(&self) -> FramePosition {
        let is_data = self.opcode <= 2;
        // RFC 6455 5.5: control frames are not fragmented, and their payload has at most 125 bytes.
        let is_control = matches!(self.opcode, CLOSE..=10) && self.is_final && self.payload <= 125;
        match self.payload {
            _ if !is_data && !is_control => FramePosition::Invalid,
            // No payload follows: the next byte begins a header.
            0 => FramePosition::default(),
            // RFC 6455 5.2: the most significant bit of a 64-bit length must be 0.
            left if left >> 63 == 0 => FramePosition::Payload { left, is_data },
            _ => FramePosition::Invalid,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MASK: [u8; 4] = [7, 1, 200, 3];

    /// A frame as RFC 6455 5.2 draws it.
    fn frame(last: bool, opcode: u8, masked: bool, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![(u8::from(last) << 7) | opcode];
        let mask = u8::from(masked) << 7;
        match payload.len() {
            n @ 0..126 => bytes.push(mask | n as u8),
            n @ 126..65536 => {
                bytes.push(mask | 126);
                bytes.extend((n as u16).to_be_bytes());
            }
            n => {
                bytes.push(mask | 127);
                bytes.extend((n as u64).to_be_bytes());
            }
        }
        if masked {
            bytes.extend(MASK);
        }
        let mix = |(i, byte): (usize, &u8)| if masked { byte ^ MASK[i % 4] } else { *byte };
        bytes.extend(payload.iter().enumerate().map(mix));
        bytes
    }

    fn frames() -> ActivityDetector {
        ActivityDetector::for_upgrade(&HeaderValue::from_static("WebSocket"))
    }

    fn events() -> ActivityDetector {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("Text/Event-Stream; charset=utf-8"));
        ActivityDetector::for_response(&headers)
    }

    #[test]
    fn websocket_data_is_activity_and_pings_pongs_and_closes_are_not() {
        for masked in [false, true] {
            for (opcode, payload, is_activity) in [
                (1, &b"hello"[..], true),
                (2, &[0; 70_000], true),
                (0, &[0; 300], true),
                (1, b"", false),
                (9, b"still there?", false),
                (10, b"still there?", false),
                (8, &[3, 233], false),
            ] {
                let mut detector = frames();
                assert_eq!(
                    detector.is_activity(&frame(true, opcode, masked, payload)),
                    is_activity,
                    "{opcode} {}",
                    payload.len()
                );
                assert_eq!(detector.may_send_close(), opcode != 8, "{opcode}");
            }
        }
    }

    #[test]
    fn bytes_that_are_no_frames_all_count_as_activity() {
        for bytes in [&[0x83, 0][..], &[0x89, 126, 1, 0], &[0x09, 0], &[0x82, 127, 128, 0, 0, 0, 0, 0, 0, 0]] {
            let mut detector = frames();
            assert!(!detector.is_activity(bytes));
            assert!(detector.is_activity(b"x") && !detector.may_send_close(), "{bytes:?}");
        }
    }

    #[test]
    fn an_event_is_activity_and_a_comment_is_not() {
        for (text, is_activity) in [
            ("data: x\n\n", true),
            (": still there\n\n", false),
            (":\r\n\r\n", false),
            ("\n\n\n", false),
            (": ping\ndata\n", true),
            ("id: 1\n\n", true),
            (":a:b\r:c\r\r", false),
        ] {
            assert_eq!(events().is_activity(text.as_bytes()), is_activity, "{text:?}");
        }
    }

    fn cut(mut bytes: &[u8], cuts: &[usize], detector: &mut ActivityDetector) -> bool {
        let mut is_activity = false;
        for cut in cuts {
            let (here, rest) = bytes.split_at((*cut).min(bytes.len()));
            is_activity |= detector.is_activity(here);
            bytes = rest;
        }
        detector.is_activity(bytes) || is_activity
    }

    proptest! {
        #[test]
        fn frames_are_told_apart_however_they_are_cut(
            sent in proptest::collection::vec((any::<bool>(), 0u8..3, any::<bool>(), 0usize..400), 0..8),
            kept_open in proptest::collection::vec((8u8..11, any::<bool>(), 0usize..126), 0..8),
            cuts in proptest::collection::vec(0usize..50, 0..60),
        ) {
            let quiet: Vec<u8> =
                kept_open.iter().flat_map(|(opcode, masked, n)| frame(true, *opcode, *masked, &vec![9; *n])).collect();
            let mut detector = frames();
            prop_assert!(!cut(&quiet, &cuts, &mut detector));
            let data: Vec<u8> =
                sent.iter().flat_map(|(last, opcode, masked, n)| frame(*last, *opcode, *masked, &vec![9; *n])).collect();
            let is_activity = sent.iter().any(|(.., n)| *n > 0);
            prop_assert_eq!(cut(&data, &cuts, &mut detector), is_activity);
            // The parser is still in step with the frames: pings after data are still distinguished from data.
            prop_assert!(!cut(&quiet, &cuts, &mut detector));
        }

        #[test]
        fn each_piece_with_payload_of_a_data_frame_is_activity(payload in 1usize..70_000, piece in 1usize..20_000) {
            let bytes = frame(true, 2, true, &vec![1; payload]);
            let head = bytes.len() - payload;
            let mut detector = frames();
            prop_assert!(!detector.is_activity(&bytes[..head]));
            for piece in bytes[head..].chunks(piece) {
                prop_assert!(detector.is_activity(piece));
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            frames().is_activity(&bytes);
            events().is_activity(&bytes);
        }

        #[test]
        fn events_are_told_apart_however_they_are_cut(
            lines in proptest::collection::vec("(:[ -~]{0,9}|)(\n|\r\n|\r)", 0..9),
            cuts in proptest::collection::vec(0usize..6, 0..30),
        ) {
            let mut detector = events();
            prop_assert!(!cut(lines.concat().as_bytes(), &cuts, &mut detector));
            prop_assert!(cut(b"data: x\n\n", &cuts, &mut detector));
        }
    }
}
