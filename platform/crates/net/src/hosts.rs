//! Virtual hosts: classifies a request by its `Host` header (the apex, the app, or an instance).
//!
//! Never by the TLS server name (SNI): browsers coalesce HTTP/2 connections, and use one connection for all names of a
//! wildcard certificate.

use axum::http::{HeaderMap, Uri, header};
use berth_ground::handle::Handle;
use berth_ground::ids::InstanceId;

/// The host names of this installation.
#[derive(Clone, Debug)]
pub struct Hosts {
    /// `example.com`: the landing page. Holds no session.
    pub apex: String,
    /// `app.example.com`: accounts, dashboard, API. Also the WebAuthn RP ID, which no tenant's page can claim.
    pub app: String,
    /// The parent domain of instances' hosts: `example.com`, or another one to separate instances.
    pub instances: String,
    /// Appended to a host in a URL: empty for 443, else `:8443`.
    pub port: String,
}

/// The kind of a host name of this installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostKind {
    Apex,
    App,
    Instance(Handle),
    /// `3000--alice.example.com`: a further port of an instance. Unambiguous, because no handle has two consecutive
    /// hyphens.
    Port(Handle, u16),
}

impl HostKind {
    /// The handle of the instance; `None` for the platform's own hosts.
    #[must_use]
    pub fn handle(&self) -> Option<&Handle> {
        match self {
            Self::Apex | Self::App => None,
            Self::Instance(handle) | Self::Port(handle, _) => Some(handle),
        }
    }
}

/// The single host that a request names, in its target or in its `Host` header; empty when the header is not ASCII.
///
/// # Errors
/// A sentence for the client when the request names no host, or two (RFC 9112 3.2 requires 400).
pub fn requested_host<'r>(target: &'r Uri, headers: &'r HeaderMap) -> Result<&'r str, &'static str> {
    let mut lines = headers.get_all(header::HOST).iter().map(|line| line.to_str().unwrap_or_default());
    let host = lines.next();
    if lines.next().is_some() {
        return Err("The request has two Host headers, and may have one.\n");
    }
    match (target.authority(), host) {
        // RFC 9112 3.2.2 gives the target precedence, but Caddy has already routed by `Host`. A request in which they
        // differ tries to reach one host under the name of another.
        (Some(target), Some(host)) if !target.as_str().eq_ignore_ascii_case(host) => {
            Err("The request names one host in its target and another in its Host header.\n")
        }
        (Some(target), _) => Ok(target.as_str()),
        (None, Some(host)) => Ok(host),
        (None, None) => Err("The request names no host. Many live here: send a Host header.\n"),
    }
}

/// A host name by which one instance is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualHost {
    /// The handle of the instance.
    pub handle: Handle,
    /// Lower case, without a port.
    pub host: String,
    /// The web origin of the instance's pages: `https://`, the host, and the port if it is not 443.
    pub origin: String,
    /// The audience of sessions on this host. For a custom domain it includes the instance, so that a session becomes
    /// invalid when the domain moves to another instance.
    pub audience: String,
    /// The port inside the instance; `None` for the contract's port.
    pub port: Option<u16>,
}

impl Hosts {
    /// Classifies a `Host` header or a TLS server name. Case, a trailing dot and a port are ignored. `None` for a
    /// foreign name.
    #[must_use]
    pub fn classify(&self, host: &str) -> Option<HostKind> {
        let name = Self::without_port(host);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        if name == self.app {
            return Some(HostKind::App);
        }
        if name == self.apex {
            return Some(HostKind::Apex);
        }
        let label = name.strip_suffix(&self.instances)?.strip_suffix('.')?;
        match label.split_once("--") {
            Some((port, handle)) => Some(HostKind::Port(Handle::parse(handle).ok()?, port_number(port)?)),
            None => Handle::parse(label).ok().map(HostKind::Instance),
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

    /// The host that every instance has: `HANDLE.example.com`.
    #[must_use]
    pub fn virtual_host(&self, handle: &Handle) -> VirtualHost {
        let host = self.instance_host(handle);
        let origin = self.origin_of(&host);
        VirtualHost { handle: handle.clone(), audience: host.clone(), host, origin, port: None }
    }

    /// The host of a further port: `PORT--HANDLE.example.com`.
    #[must_use]
    pub fn virtual_host_of_port(&self, handle: &Handle, port: u16) -> VirtualHost {
        let host = format!("{port}--{}", self.instance_host(handle));
        let origin = self.origin_of(&host);
        VirtualHost { handle: handle.clone(), audience: host.clone(), host, origin, port: Some(port) }
    }

    /// The host of an instance under its owner's custom domain.
    #[must_use]
    pub fn virtual_host_of_domain(&self, domain: &str, handle: &Handle, instance: InstanceId) -> VirtualHost {
        VirtualHost {
            handle: handle.clone(),
            host: domain.to_owned(),
            origin: self.origin_of(domain),
            audience: format!("{domain} of {instance}"),
            port: None,
        }
    }

    /// A `Host` header without its port.
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
        // Concatenated instead of formatted: this runs for every request.
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

/// Parses a port number in its canonical form, without sign and leading zero, so that one program has one host and one
/// origin.
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
    fn every_spelling_of_a_host_is_classified_alike() {
        let hosts = hosts();
        let alice = || Some(HostKind::Instance(Handle::parse("alice").unwrap()));
        for (host, site) in [
            ("example.com", Some(HostKind::Apex)),
            ("APP.example.com.", Some(HostKind::App)),
            ("app.example.com:443", Some(HostKind::App)),
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
            // Internationalized names, as Unicode or as Punycode, are never a handle.
            ("xn--alice.example.com", None),
            ("xn--lice-3ra.example.com", None),
            ("\u{e4}lice.example.com", None),
            ("127.0.0.1", None),
            ("[::1]:8443", None),
            ("", None),
        ] {
            assert_eq!(hosts.classify(host), site, "{host}");
        }
    }

    #[test]
    fn a_port_has_one_host_which_is_no_handle() {
        let (hosts, alice) = (hosts(), Handle::parse("alice").unwrap());
        let site = hosts.classify("3000--ALICE.example.com:8443").unwrap();
        assert_eq!(site, HostKind::Port(alice.clone(), 3000));
        assert_eq!(hosts.virtual_host_of_port(&alice, 3000).origin, "https://3000--alice.example.com:8443");
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
            assert_eq!(hosts.classify(host), None, "{host}");
        }
    }

    #[test]
    fn a_request_has_to_name_exactly_one_host() {
        let classified = |target, lines| requested(target, lines).map(|host| hosts().classify(&host));
        let alice = || Ok(Some(HostKind::Instance(Handle::parse("alice").unwrap())));
        for (case, target, lines, site) in [
            ("as browsers do", "/x?y", &["alice.example.com"][..], alice()),
            ("as proxies do", "http://alice.example.com/x", &["alice.example.com"], alice()),
            ("in two spellings", "http://ALICE.example.com/x", &["alice.example.com"], alice()),
            ("in its target alone", "http://alice.example.com:8443/x", &[], alice()),
            ("a foreign host", "/", &["evil.test"], Ok(None)),
            ("not ASCII", "/", &["\u{e4}lice.example.com"], Ok(None)),
            ("with user information before it", "http://app.example.com@alice.example.com/", &[], Ok(None)),
        ] {
            assert_eq!(classified(target, lines), site, "{case}");
        }
        for (case, target, lines) in [
            ("nowhere, as HTTP/1.0 may", "/", &[][..]),
            ("twice", "/", &["alice.example.com", "app.example.com"]),
            ("twice the same", "/", &["alice.example.com", "alice.example.com"]),
            ("two", "http://app.example.com/", &["alice.example.com"]),
        ] {
            let message = requested(target, lines).unwrap_err();
            assert!(message.starts_with("The request ") && message.ends_with(".\n"), "{case}: {message}");
        }
    }

    fn requested(target: &str, lines: &[&str]) -> Result<String, &'static str> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::HOST, axum::http::HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        requested_host(&target.parse().unwrap(), &headers).map(str::to_owned)
    }
}
