//! The way back after logging in.

use crate::http::format::query_value;

/// Where to go after logging in: a hand-off on our own host, nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnPath(pub(super) String);

impl ReturnPath {
    /// `None` for everything but `/hand-off?..`, which then is checked by the hand-off itself.
    pub fn parse(path: &str) -> Option<Self> {
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        (path.starts_with("/hand-off?") && plain).then(|| Self(path.to_owned()))
    }

    /// `page` with this way on.
    pub fn after(&self, page: &str) -> String {
        format!("{page}?next={}", query_value(&self.0))
    }

    /// The host that the hand-off is for, as it was asked for.
    pub fn host(&self) -> &str {
        let pairs = self.0.split(['?', '&']);
        pairs.filter_map(|pair| pair.strip_prefix("host=")).next().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_on_stays_on_our_own_host() {
        for bad in [
            "",
            "/",
            "//evil.test/hand-off?",
            "https://evil.test/hand-off?host=a",
            "/hand-off/../admin",
            "/hand-off?a=\\b",
            "/hand-off?a=b\r\nSet-Cookie: x",
            "/log-out",
        ] {
            assert_eq!(ReturnPath::parse(bad), None, "{bad}");
        }
        let next = ReturnPath::parse("/hand-off?host=alice.example.com&state=s").unwrap();
        assert_eq!(next.host(), "alice.example.com");
        assert_eq!(next.after("/log-in"), "/log-in?next=%2Fhand-off%3Fhost%3Dalice.example.com%26state%3Ds");
    }
}
