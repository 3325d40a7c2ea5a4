//! Which of our hosts a request is for: the apex, the app, or an instance. Decided by the Host header alone, never by
//! the TLS name: browsers reuse one HTTP/2 connection for all names of a wildcard certificate.

use axum::http::{HeaderMap, Uri, header};
use berth_ground::handle::Handle;
use berth_ground::ids::InstanceId;

/// The hostnames of this installation.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// `example.com`: the landing page. Holds no session.
    pub apex: String,
    /// `app.example.com`: accounts, dashboard, API. Also the WebAuthn RP ID, which no tenant's page can claim.
    pub app: String,
    /// `example.com`, or the other domain that instances were moved to: handles stand in front of it.
    pub instances: String,
    /// Appended to a host in a URL: empty for 443, else `:8443`.
    pub port: String,
}

/// What a hostname stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Site {
    Apex,
    App,
    Instance(Handle),
    /// `3000--alice.example.com`: another port of an instance. No handle has two hyphens in a row.
    Port(Handle, u16),
}

impl Site {
    /// Whose instance it is, if it is one.
    #[must_use]
    pub fn handle(&self) -> Option<&Handle> {
        match self {
            Self::Apex | Self::App => None,
            Self::Instance(handle) | Self::Port(handle, _) => Some(handle),
        }
    }
}

/// The one host that a request names, in its target or in its Host header; empty when that is not even text.
///
/// # Errors
/// Why it is not one, in a sentence for whoever sent it (RFC 9112 3.2: such a request is answered with 400).
pub fn named<'r>(target: &'r Uri, headers: &'r HeaderMap) -> Result<&'r str, &'static str> {
    let mut lines = headers.get_all(header::HOST).iter().map(|line| line.to_str().unwrap_or_default());
    let host = lines.next();
    if lines.next().is_some() {
        return Err("The request has two Host headers, and may have one.\n");
    }
    match (target.authority(), host) {
        (Some(target), Some(host)) if !target.as_str().eq_ignore_ascii_case(host) => {
            Err("The request names one host in its target and another in its Host header.\n")
        }
        (Some(target), _) => Ok(target.as_str()),
        (None, Some(host)) => Ok(host),
        (None, None) => Err("The request names no host. Many live here: send a Host header.\n"),
    }
}

/// A hostname by which one instance is entered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrance {
    /// Whose instance it leads to.
    pub handle: Handle,
    /// Lower case, without a port.
    pub host: String,
    /// `https://` and the host, with the port browsers use: where the instance's own pages come from.
    pub origin: String,
    /// What sessions of it are for. Of a domain it names the instance as well: a session ends to be one when the domain
    /// leads elsewhere.
    pub audience: String,
    /// The port inside that the host names; `None` for the instance's own.
    pub port: Option<u16>,
}

impl Hosts {
    /// Reads a Host header or a TLS name: case, a trailing dot and a port do not matter. `None` for any name that is not ours.
    #[must_use]
    pub fn site(&self, host: &str) -> Option<Site> {
        let name = Self::without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name == self.app {
            return Some(Site::App);
        }
        if name == self.apex {
            return Some(Site::Apex);
        }
        let label = name.strip_suffix(&self.instances)?.strip_suffix('.')?;
        match label.split_once("--") {
            Some((port, handle)) => Some(Site::Port(Handle::parse(handle).ok()?, port_number(port)?)),
            None => Handle::parse(label).ok().map(Site::Instance),
        }
    }

    /// `https://app.example.com`, the only origin that passkey ceremonies and forms come from.
    #[must_use]
    pub fn app_origin(&self) -> String {
        format!("https://{}{}", self.app, self.port)
    }

    /// `https://example.com`.
    #[must_use]
    pub fn apex_origin(&self) -> String {
        format!("https://{}{}", self.apex, self.port)
    }

    /// The entrance that every instance has: `HANDLE.example.com`.
    #[must_use]
    pub fn entrance(&self, handle: &Handle) -> Entrance {
        let host = self.instance_host(handle);
        let origin = self.origin_of(&host);
        Entrance { handle: handle.clone(), audience: host.clone(), host, origin, port: None }
    }

    /// The entrance of another port: `PORT--HANDLE.example.com`.
    #[must_use]
    pub fn entrance_of_port(&self, handle: &Handle, port: u16) -> Entrance {
        let host = format!("{port}--{}", self.instance_host(handle));
        let origin = self.origin_of(&host);
        Entrance { handle: handle.clone(), audience: host.clone(), host, origin, port: Some(port) }
    }

    /// The entrance of an instance by a domain of its owner's.
    #[must_use]
    pub fn entrance_by_domain(&self, domain: &str, handle: &Handle, instance: InstanceId) -> Entrance {
        Entrance {
            handle: handle.clone(),
            host: domain.to_owned(),
            origin: self.origin_of(domain),
            audience: format!("{domain} of {instance}"),
            port: None,
        }
    }

    /// A Host header without its port.
    #[must_use]
    pub fn without_port(host: &str) -> &str {
        match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => host,
        }
    }

    /// `HANDLE.example.com`, without a port.
    #[must_use]
    pub fn instance_host(&self, handle: &Handle) -> String {
        // Joined, not formatted: every request comes by here.
        [handle.as_str(), ".", &self.instances].concat()
    }

    /// `https://HANDLE.example.com`.
    #[must_use]
    pub fn instance_origin(&self, handle: &Handle) -> String {
        self.origin_of(&self.instance_host(handle))
    }

    fn origin_of(&self, host: &str) -> String {
        ["https://", host, &self.port].concat()
    }
}

/// A port as it is written in one way only: no sign, no zero in front, so that one site has one host.
#[must_use]
pub fn port_number(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|_| plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts {
            apex: "example.com".into(),
            app: "app.example.com".into(),
            instances: "example.com".into(),
            port: ":8443".into(),
        }
    }

    #[test]
    fn a_host_is_read_the_same_however_it_is_written() {
        let hosts = hosts();
        let alice = || Some(Site::Instance(Handle::parse("alice").unwrap()));
        for (host, site) in [
            ("example.com", Some(Site::Apex)),
            ("APP.example.com.", Some(Site::App)),
            ("app.example.com:443", Some(Site::App)),
            ("Alice.Example.Com:8443", alice()),
            ("alice.example.com.", alice()),
            ("a.alice.example.com", None),
            ("aliceexample.com", None),
            (".example.com", None),
            ("example.com.evil.test", None),
            ("alice.example.com..", None),
            ("alice.example.com:443:443", None),
            ("alice.example.com:https", None),
            ("alice@evil.example.com", None),
            ("alice .example.com", None),
            // Names in other scripts, written either way, are nobody's handle.
            ("xn--alice.example.com", None),
            ("xn--lice-3ra.example.com", None),
            ("\u{e4}lice.example.com", None),
            ("127.0.0.1", None),
            ("[::1]:8443", None),
            ("", None),
        ] {
            assert_eq!(hosts.site(host), site, "{host}");
        }
    }

    #[test]
    fn a_port_has_a_host_of_its_own_that_is_no_handle_and_is_written_in_one_way() {
        let (hosts, alice) = (hosts(), Handle::parse("alice").unwrap());
        let site = hosts.site("3000--ALICE.example.com:8443").unwrap();
        assert_eq!(site, Site::Port(alice.clone(), 3000));
        assert_eq!(hosts.entrance_of_port(&alice, 3000).origin, "https://3000--alice.example.com:8443");
        for host in [
            "03000--alice.example.com",
            "+3000--alice.example.com",
            "70000--alice.example.com",
            "--alice.example.com",
            "3000--.example.com",
            "3000---alice.example.com",
            "3000--4000--alice.example.com",
            "3000-alice.example.com",
            "3000.alice.example.com",
        ] {
            assert_eq!(hosts.site(host), None, "{host}");
        }
    }

    #[test]
    fn a_request_names_one_host_or_is_not_understood() {
        let good = |target, lines| asked(target, lines).map(|host| hosts().site(&host));
        let alice = || Ok(Some(Site::Instance(Handle::parse("alice").unwrap())));
        for (sentence, target, lines, site) in [
            ("as browsers do", "/x?y", &["alice.example.com"][..], alice()),
            ("as proxies do", "http://alice.example.com/x", &["alice.example.com"], alice()),
            ("in two spellings", "http://ALICE.example.com/x", &["alice.example.com"], alice()),
            ("in its target alone", "http://alice.example.com:8443/x", &[], alice()),
            ("somebody else's", "/", &["evil.test"], Ok(None)),
            ("in letters that no host has", "/", &["\u{e4}lice.example.com"], Ok(None)),
            ("with a name before it", "http://app.example.com@alice.example.com/", &[], Ok(None)),
        ] {
            assert_eq!(good(target, lines), site, "{sentence}");
        }
        for (sentence, target, lines) in [
            ("nowhere, as HTTP/1.0 may", "/", &[][..]),
            ("twice", "/", &["alice.example.com", "app.example.com"]),
            ("twice the same", "/", &["alice.example.com", "alice.example.com"]),
            ("two", "http://app.example.com/", &["alice.example.com"]),
        ] {
            let why = asked(target, lines).unwrap_err();
            assert!(why.starts_with("The request ") && why.ends_with(".\n"), "{sentence}: {why}");
        }
    }

    fn asked(target: &str, lines: &[&str]) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::HOST, axum::http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        named(&target.parse().unwrap(), &headers).map(str::to_owned)
    }
}
