//! The return path: where a browser goes after logging in. Only hand-offs are accepted, which rules out open
//! redirects.

use crate::http::format::query_value;

/// A path on the app host that leads to a hand-off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnPath(pub(super) String);

impl ReturnPath {
    /// `None` for everything but `/hand-off?..`. The hand-off then checks its own parameters.
    pub fn parse(path: &str) -> Option<Self> {
        // Browsers read a backslash as a slash, and drop tabs and line breaks inside a URL (WHATWG URL 4.4), so
        // neither may pass.
        let plain = path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
        (path.starts_with("/hand-off?") && plain).then(|| Self(path.to_owned()))
    }

    /// The address of `page`, with this return path as its parameter.
    pub fn after(&self, page: &str) -> String {
        format!("{page}?next={}", query_value(&self.0))
    }

    /// The host that the hand-off is for, unverified.
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
