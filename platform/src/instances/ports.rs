//! Additional ports of an instance: the set that its owner opened, and the parser of its notation. Empty by default; an
//! open port is reachable for the owner only.

use std::fmt;

use berth_net::hosts::port_number;

/// Maximum number of open ports of one instance. Each may need a certificate of its own.
pub const MOST_PORTS: usize = 16;
/// The lowest port that may be opened: ports below it are privileged, and programs inside an instance have no
/// privileges.
const LOWEST: u16 = 1024;

/// The open ports, sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PortList(Vec<u16>);

/// Why a text is not a list of ports. `Display` is for the person who typed it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortListError {
    #[error("Ports are numbers and ranges between commas, such as 3000, 8000-8003.")]
    NotAList,
    #[error("{0} is not between 1024 and 65535.")]
    OutOfRange(String),
    #[error("At most 16 ports may be open.")]
    TooMany,
}

impl PortList {
    /// Parses `3000, 8000-8003`. An empty text is the empty list.
    ///
    /// # Errors
    /// When an entry is not a port or a range, is out of range, or the list is too long.
    pub fn parse(text: &str) -> Result<Self, PortListError> {
        let mut ports = Vec::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (port(first.trim())?, port(last.trim())?);
            if first > last {
                return Err(PortListError::NotAList);
            }
            // Before the range is expanded, which bounds the memory that a text can take.
            if usize::from(last - first) >= MOST_PORTS {
                return Err(PortListError::TooMany);
            }
            ports.extend(first..=last);
        }
        ports.sort_unstable();
        ports.dedup();
        if ports.len() > MOST_PORTS { Err(PortListError::TooMany) } else { Ok(Self(ports)) }
    }

    /// Iterates over the ports in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u16> {
        self.0.iter().copied()
    }

    /// Whether `port` is open.
    #[must_use]
    pub fn contains(&self, port: u16) -> bool {
        self.0.binary_search(&port).is_ok()
    }

    /// Whether no port is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn port(text: &str) -> Result<u16, PortListError> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(PortListError::NotAList);
    }
    port_number(text).filter(|port| *port >= LOWEST).ok_or_else(|| PortListError::OutOfRange(text.to_owned()))
}

impl fmt::Display for PortList {
    /// The notation of [`PortList::parse`], with consecutive ports as a range.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let runs = self.0.chunk_by(|a, b| *b == a + 1);
        for (i, run) in runs.enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            match run {
                [first, .., last] => write!(f, "{comma}{first}-{last}")?,
                one => write!(f, "{comma}{}", one[0])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ports_are_read_as_people_write_them() {
        for (text, read) in [
            ("", Ok("")),
            (" , ", Ok("")),
            ("3000", Ok("3000")),
            ("8001, 3000,8000 , 3000", Ok("3000, 8000-8001")),
            ("8000 - 8003", Ok("8000-8003")),
            ("65520-65535", Ok("65520-65535")),
            ("80", Err(PortListError::OutOfRange("80".into()))),
            ("70000", Err(PortListError::OutOfRange("70000".into()))),
            ("03000", Err(PortListError::OutOfRange("03000".into()))),
            ("8003-8000", Err(PortListError::NotAList)),
            ("3000-", Err(PortListError::NotAList)),
            ("3000;4000", Err(PortListError::NotAList)),
            ("http", Err(PortListError::NotAList)),
            ("1024-65535", Err(PortListError::TooMany)),
            ("3000-3015, 4000", Err(PortListError::TooMany)),
        ] {
            let shown = PortList::parse(text).map(|ports| ports.to_string());
            assert_eq!(shown, read.map(str::to_owned), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_the_same(ports in proptest::collection::btree_set(1024u16..=65535, 0..=MOST_PORTS)) {
            let ports = PortList(ports.into_iter().collect());
            prop_assert_eq!(PortList::parse(&ports.to_string()), Ok(ports));
        }

        #[test]
        fn no_text_brings_it_down(text in "[0-9, -]{0,40}") {
            let _ = PortList::parse(&text);
        }
    }
}
