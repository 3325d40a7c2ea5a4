//! Whether bytes that pass say that something happens, or only that the line is open. Told beside the path: no byte is
//! changed, kept or waited for, however they are cut up.

use axum::http::{HeaderMap, HeaderValue, header};

/// One direction of one connection.
pub(super) enum ActivityDetector {
    /// Every byte is one.
    Bytes,
    EventStream(EventStreamParser),
    WebSocket(WebSocketParser),
}

impl ActivityDetector {
    /// Of an answer with these headers.
    pub(super) fn of_answer(headers: &HeaderMap) -> Self {
        let kind = headers.get(header::CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes).trim_ascii_start();
        let is_events = kind.get(..17).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"));
        // What is compressed is not looked into.
        if is_events && !headers.contains_key(header::CONTENT_ENCODING) {
            Self::EventStream(EventStreamParser::LineBegins)
        } else {
            Self::Bytes
        }
    }

    /// Of a connection that was upgraded to `protocol`.
    pub(super) fn of_upgrade(protocol: &HeaderValue) -> Self {
        if protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
            Self::WebSocket(WebSocketParser::default())
        } else {
            Self::Bytes
        }
    }

    /// Takes the next `bytes` in; whether something happens in them.
    pub(super) fn moves(&mut self, bytes: &[u8]) -> bool {
        match self {
            Self::Bytes => !bytes.is_empty(),
            Self::EventStream(events) => events.moves(bytes),
            Self::WebSocket(frames) => frames.moves(bytes),
        }
    }

    /// Whether a Close frame may come next: on a WebSocket, between two frames, before one was sent.
    pub(super) fn may_close(&self) -> bool {
        matches!(self, Self::WebSocket(WebSocketParser { closed: false, at: FramePosition::Header { have: 0, .. } }))
    }
}

/// Server-sent events (WHATWG HTML 9.2.6): a line that begins with a colon is a comment, and like a blank one it keeps
/// proxies from hanging up. Any other line is a field, and a message for somebody.
pub(super) enum EventStreamParser {
    LineBegins,
    InComment,
    InField,
}

impl EventStreamParser {
    fn moves(&mut self, bytes: &[u8]) -> bool {
        let mut moves = false;
        for byte in bytes {
            *self = match (&self, byte) {
                (_, b'\n' | b'\r') => Self::LineBegins,
                (Self::LineBegins, b':') | (Self::InComment, _) => Self::InComment,
                (Self::LineBegins | Self::InField, _) => Self::InField,
            };
            moves |= matches!(self, Self::InField);
        }
        moves
    }
}

/// The frames of one direction of a WebSocket (RFC 6455 5.2). Payload of data frames moves, whole or in fragments; pings,
/// pongs, closes and empty frames do not. A mask changes nothing about that.
#[derive(Default)]
pub(super) struct WebSocketParser {
    at: FramePosition,
    closed: bool,
}

enum FramePosition {
    /// In the head of a frame, of which so many bytes have come.
    Header {
        bytes: [u8; LONGEST_HEAD],
        have: u8,
    },
    Payload {
        left: u64,
        data: bool,
    },
    /// What came are no frames: from here on every byte moves.
    Astray,
}

/// Two bytes, eight of length, four of mask.
const LONGEST_HEAD: usize = 14;

impl Default for FramePosition {
    fn default() -> Self {
        Self::Header { bytes: [0; LONGEST_HEAD], have: 0 }
    }
}

impl WebSocketParser {
    fn moves(&mut self, mut bytes: &[u8]) -> bool {
        let mut moves = false;
        while let Some((first, rest)) = bytes.split_first() {
            match &mut self.at {
                FramePosition::Astray => return true,
                FramePosition::Header { bytes: head, have } => {
                    head[usize::from(*have)] = *first;
                    *have += 1;
                    bytes = rest;
                    if let Some(head) = FrameHeader::read(&head[..usize::from(*have)]) {
                        self.closed |= head.opcode == CLOSE;
                        self.at = head.then();
                    }
                }
                FramePosition::Payload { left, data } => {
                    let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                    moves |= *data;
                    *left -= here as u64;
                    bytes = &bytes[here..];
                    if *left == 0 {
                        self.at = FramePosition::default();
                    }
                }
            }
        }
        moves
    }
}

const CLOSE: u8 = 8;

struct FrameHeader {
    last: bool,
    opcode: u8,
    payload: u64,
}

impl FrameHeader {
    /// `None` while more of it has to come.
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
        Some(Self { last: first & 0x80 != 0, opcode: first & 0x0f, payload })
    }

    /// What comes after it.
    fn then(&self) -> FramePosition {
        let is_data = self.opcode <= 2;
        let is_control = matches!(self.opcode, CLOSE..=10) && self.last && self.payload <= 125;
        match self.payload {
            _ if !is_data && !is_control => FramePosition::Astray,
            0 => FramePosition::default(),
            // RFC 6455 5.2: the most significant bit must be 0.
            left if left >> 63 == 0 => FramePosition::Payload { left, data: is_data },
            _ => FramePosition::Astray,
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
        ActivityDetector::of_upgrade(&HeaderValue::from_static("WebSocket"))
    }

    fn events() -> ActivityDetector {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("Text/Event-Stream; charset=utf-8"));
        ActivityDetector::of_answer(&headers)
    }

    #[test]
    fn data_moves_and_what_keeps_the_line_open_does_not() {
        for masked in [false, true] {
            for (opcode, payload, moves) in [
                (1, &b"hello"[..], true),
                (2, &[0; 70_000], true),
                (0, &[0; 300], true),
                (1, b"", false),
                (9, b"still there?", false),
                (10, b"still there?", false),
                (8, &[3, 233], false),
            ] {
                let mut movement = frames();
                assert_eq!(movement.moves(&frame(true, opcode, masked, payload)), moves, "{opcode} {}", payload.len());
                assert_eq!(movement.may_close(), opcode != 8, "{opcode}");
            }
        }
    }

    #[test]
    fn what_are_no_frames_moves_as_bytes_do() {
        for bytes in [&[0x83, 0][..], &[0x89, 126, 1, 0], &[0x09, 0], &[0x82, 127, 128, 0, 0, 0, 0, 0, 0, 0]] {
            let mut movement = frames();
            assert!(!movement.moves(bytes));
            assert!(movement.moves(b"x") && !movement.may_close(), "{bytes:?}");
        }
    }

    #[test]
    fn an_event_moves_and_a_comment_does_not() {
        for (text, moves) in [
            ("data: x\n\n", true),
            (": still there\n\n", false),
            (":\r\n\r\n", false),
            ("\n\n\n", false),
            (": ping\ndata\n", true),
            ("id: 1\n\n", true),
            (":a:b\r:c\r\r", false),
        ] {
            assert_eq!(events().moves(text.as_bytes()), moves, "{text:?}");
        }
    }

    fn cut(mut bytes: &[u8], cuts: &[usize], movement: &mut ActivityDetector) -> bool {
        let mut moves = false;
        for cut in cuts {
            let (here, rest) = bytes.split_at((*cut).min(bytes.len()));
            moves |= movement.moves(here);
            bytes = rest;
        }
        movement.moves(bytes) || moves
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
            let mut movement = frames();
            prop_assert!(!cut(&quiet, &cuts, &mut movement));
            let data: Vec<u8> =
                sent.iter().flat_map(|(last, opcode, masked, n)| frame(*last, *opcode, *masked, &vec![9; *n])).collect();
            let moves = sent.iter().any(|(.., n)| *n > 0);
            prop_assert_eq!(cut(&data, &cuts, &mut movement), moves);
            // And it has not lost its place: between data, quiet is still quiet.
            prop_assert!(!cut(&quiet, &cuts, &mut movement));
        }

        #[test]
        fn each_piece_with_payload_of_data_moves(payload in 1usize..70_000, piece in 1usize..20_000) {
            let bytes = frame(true, 2, true, &vec![1; payload]);
            let head = bytes.len() - payload;
            let mut movement = frames();
            prop_assert!(!movement.moves(&bytes[..head]));
            for piece in bytes[head..].chunks(piece) {
                prop_assert!(movement.moves(piece));
            }
        }

        #[test]
        fn no_bytes_at_all_bring_it_down(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            frames().moves(&bytes);
            events().moves(&bytes);
        }

        #[test]
        fn events_are_told_apart_however_they_are_cut(
            lines in proptest::collection::vec("(:[ -~]{0,9}|)(\n|\r\n|\r)", 0..9),
            cuts in proptest::collection::vec(0usize..6, 0..30),
        ) {
            let mut movement = events();
            prop_assert!(!cut(lines.concat().as_bytes(), &cuts, &mut movement));
            prop_assert!(cut(b"data: x\n\n", &cuts, &mut movement));
        }
    }
}
