//! Which of our hosts a request is for: the apex, the app, or an instance. Decided by the Host header alone, never by
//! the TLS name: browsers reuse one HTTP/2 connection for all names of a wildcard certificate.

use crate::db::InstanceId;
use crate::handle::Handle;

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
        Handle::parse(label).ok().map(Site::Instance)
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
        let (host, origin) = (self.instance_host(handle), self.instance_origin(handle));
        Entrance { handle: handle.clone(), audience: host.clone(), host, origin }
    }

    /// The entrance of an instance by a domain of its owner's.
    #[must_use]
    pub fn entrance_by_domain(&self, domain: &str, handle: &Handle, instance: InstanceId) -> Entrance {
        Entrance {
            handle: handle.clone(),
            host: domain.to_owned(),
            origin: format!("https://{domain}{}", self.port),
            audience: format!("{domain} of {instance}"),
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
        format!("{handle}.{}", self.instances)
    }

    /// `https://HANDLE.example.com`.
    #[must_use]
    pub fn instance_origin(&self, handle: &Handle) -> String {
        format!("https://{}{}", self.instance_host(handle), self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_the_same_however_it_is_written() {
        let hosts = Hosts {
            apex: "example.com".into(),
            app: "app.example.com".into(),
            instances: "example.com".into(),
            port: String::new(),
        };
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
            ("xn--alice.example.com", None),
            ("127.0.0.1", None),
            ("", None),
        ] {
            assert_eq!(hosts.site(host), site, "{host}");
        }
    }
}
