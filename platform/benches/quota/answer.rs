//! How far an answer has come, told from its bytes: with nothing between the clock and the kernel but this.

use anyhow::Context as _;

/// The head of an answer that has come.
pub struct Head {
    pub status: u16,
    /// Where the body begins.
    pub body: usize,
    length: Length,
}

enum Length {
    Known(usize),
    /// In chunks, of which the last is empty.
    Chunked,
}

impl Head {
    /// `None`: more of it is to come.
    pub fn read(came: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = came.windows(4).position(|four| four == b"\r\n\r\n") else { return Ok(None) };
        let head = std::str::from_utf8(&came[..end])?;
        let mut lines = head.split("\r\n");
        let status = lines.next().and_then(|line| line.split(' ').nth(1)).context("an answer has a status")?;
        let mut length = Length::Chunked;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                length = Length::Known(value.trim().parse()?);
            }
        }
        Ok(Some(Self { status: status.parse()?, body: end + 4, length }))
    }

    /// Whether all of the answer is in `came`. On a connection on which one is asked for at a time nothing comes behind
    /// it.
    pub fn is_whole(&self, came: &[u8]) -> bool {
        match self.length {
            Length::Known(length) => came.len() >= self.body + length,
            Length::Chunked => came[self.body..].ends_with(b"0\r\n\r\n"),
        }
    }
}
