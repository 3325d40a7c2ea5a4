//! Settings, read once from the environment, every mistake reported together and by name.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::hosts::Hosts;

/// One environment variable: what `.env.example` says of it. A test holds the two together.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    /// The value when it is not set; empty when it has none.
    pub default: &'static str,
    /// What it is, its unit, and why one would change it.
    pub doc: &'static str,
}

/// Every variable Berth reads.
pub const VARIABLES: &[Variable] = &[
    var(
        "BERTH_DOMAIN",
        "localhost",
        "The domain: the apex shows the landing page, app.DOMAIN the platform, HANDLE.DOMAIN an instance.",
    ),
    var(
        "BERTH_INSTANCE_DOMAIN",
        "",
        "Another registrable domain for instances, so that their cookies cannot even be set on yours. Default: BERTH_DOMAIN.",
    ),
    var("BERTH_HTTPS_PORT", "443", "The port browsers use. Change it when 443 is taken; passkeys are tied to it."),
    var("BERTH_HTTP_PORT", "80", "The port on which Caddy redirects to https and answers ACME challenges."),
    var(
        "BERTH_TLS_ISSUER",
        "internal",
        "Who signs certificates: internal (Caddy's own CA, for localhost) or acme (Let's Encrypt).",
    ),
    var("BERTH_DNS_PROVIDER", "", "Your DNS provider's module in Caddy: one wildcard for 40 sign-ups a week or more."),
    var("BERTH_DNS_TOKEN", "", "What that provider's API asks for. Only Caddy uses it."),
    var("BERTH_DATA_DIR", "./data", "Where the database, logs, sockets and Caddy's certificates live."),
    var(
        "DATABASE_URL",
        "",
        "sqlite:PATH or postgres://... Default: a SQLite file in BERTH_DATA_DIR. PostgreSQL when several machines share it.",
    ),
    var(
        "BERTH_SECRET",
        "",
        "At least 32 random characters; all keys are derived from it. Losing it loses every one-time-code secret. scripts/up makes one.",
    ),
    var(
        "BERTH_LISTEN",
        "127.0.0.1:8700",
        "Where the platform listens for Caddy. Loopback, because it believes X-Forwarded-For from there.",
    ),
    var(
        "BERTH_INTERNAL_LISTEN",
        "127.0.0.1:8701",
        "Where Caddy asks about certificates, and /healthz and /metrics answer. Keep it on loopback.",
    ),
    var(
        "BERTH_QUOTA_PORT",
        "8702",
        "The quota proxy's port on each bridge's own address, where only instances reach it.",
    ),
    var(
        "BERTH_NETWORK",
        "berth",
        "Name of the bridges (NAME0, NAME1, ..) and prefix of containers and volumes. At most 11 characters; change it to run two installations on one Docker Engine.",
    ),
    var(
        "BERTH_SUBNET",
        "10.89.0.0",
        "First address of the bridges: a /16, cut into /22 per bridge. Change it when it clashes with a network of yours.",
    ),
    var("BERTH_BRIDGES", "1", "Bridges, 1 to 64; each holds 500 instances (a Linux bridge grows unstable near 1000)."),
    var(
        "BERTH_IMAGES",
        "berth-instance:latest",
        "Images an instance may run, separated by commas; the first is the default.",
    ),
    var("BERTH_MEMORY_MIB", "512", "Memory of an instance in MiB."),
    var(
        "BERTH_SWAP_MIB",
        "512",
        "Swap an instance may use beyond its memory, in MiB. A frozen instance is handed to swap; 0 keeps it in memory.",
    ),
    var("BERTH_CPUS", "1", "Processor cores an instance may use, such as 0.5."),
    var("BERTH_PIDS", "256", "Processes and threads an instance may have."),
    var("BERTH_FREEZE_AFTER_SECONDS", "300", "Idle time after which an instance is frozen."),
    var("BERTH_STOP_AFTER_SECONDS", "1800", "Idle time after which it is stopped."),
    var(
        "BERTH_WAKE_TIMEOUT_SECONDS",
        "30",
        "How long a program's request is held for an instance to become ready before it gets 503.",
    ),
    var(
        "BERTH_ALLOWANCE_DOLLARS",
        "5",
        "What an account may spend on AI calls in a calendar month (UTC), in US dollars.",
    ),
    var("BERTH_CALLS_AT_ONCE", "5", "AI calls an account may have in flight."),
    var("ANTHROPIC_API_KEY", "", "The provider key for Anthropic calls. Not set: the demo model answers them."),
    var("OPENAI_API_KEY", "", "The provider key for OpenAI calls. Not set: the demo model answers them."),
    var("BERTH_ANTHROPIC_URL", "https://api.anthropic.com", "Where Anthropic calls go when its key is set."),
    var("BERTH_OPENAI_URL", "https://api.openai.com", "Where OpenAI calls go when its key is set."),
    var(
        "BERTH_DEMO_LISTEN",
        "127.0.0.1:8703",
        "Where the demo model listens, and where calls go for which no key is set.",
    ),
    var("BERTH_SIGNUPS", "open", "open or closed. Closed, only the operator's set-up link makes an account."),
    var("BERTH_LOG", "info", "What is logged, in the syntax of tracing's EnvFilter, such as info,berth::edge=debug."),
    var("BERTH_LOG_FORMAT", "pretty", "pretty or json."),
];

const fn var(name: &'static str, default: &'static str, doc: &'static str) -> Variable {
    Variable { name, default, doc }
}

/// The settings, checked.
#[derive(Clone)]
pub struct Config {
    pub hosts: Hosts,
    pub data_dir: PathBuf,
    pub database_url: String,
    pub secret: Zeroizing<String>,
    pub listen: SocketAddr,
    pub internal_listen: SocketAddr,
    pub quota_port: u16,
    pub containers: ContainerConfig,
    pub freeze_after: Duration,
    pub stop_after: Duration,
    pub wake_timeout: Duration,
    /// Per account and calendar month.
    pub allowance_nanodollars: i64,
    pub calls_at_once: u32,
    pub anthropic: Upstream,
    pub openai: Upstream,
    pub demo_listen: SocketAddr,
    pub signups_open: bool,
    pub log: String,
    pub log_json: bool,
}

/// What the provisioner needs to know; it reads nothing else.
#[derive(Clone, Debug)]
pub struct ContainerConfig {
    pub socket: PathBuf,
    /// Prefix of every container, volume and bridge of this installation.
    pub network: String,
    pub subnet: Ipv4Addr,
    pub bridges: u8,
    /// Never empty; the first is the default.
    pub images: Vec<String>,
    pub memory_mib: u32,
    pub swap_mib: u32,
    pub nano_cpus: i64,
    pub pids: u32,
    pub quota_port: u16,
    /// Where an instance listens: the instance contract's 8080, another one only in tests.
    pub instance_port: u16,
}

/// A model provider as the quota proxy reaches it.
#[derive(Clone)]
pub struct Upstream {
    /// Without a trailing slash.
    pub url: String,
    /// `None`: the demo model, which asks for no key.
    pub key: Option<Zeroizing<String>>,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Upstream({}, key: {})", self.url, if self.key.is_some() { "set" } else { "none" })
    }
}

/// Everything wrong with the settings, one line for each.
#[derive(Debug, PartialEq, Eq)]
pub struct Mistakes(pub Vec<String>);

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Berth cannot start with these settings:\n  {}", self.0.join("\n  "))
    }
}

impl std::error::Error for Mistakes {}

impl Config {
    /// Reads the process's environment.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn from_env() -> Result<Self, Mistakes> {
        Self::read(&environment)
    }

    /// Reads settings from `lookup`, which gives a variable's value when it is set. Empty counts as not set.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, Mistakes> {
        let mut r = Reader { lookup, mistakes: Vec::new() };
        let hosts = r.hosts();
        let data_dir = PathBuf::from(r.text("BERTH_DATA_DIR"));
        let demo_listen: SocketAddr = r.parsed("BERTH_DEMO_LISTEN", "an address and port, such as 127.0.0.1:8703");
        let config = Self {
            database_url: r
                .optional("DATABASE_URL")
                .unwrap_or_else(|| format!("sqlite:{}", data_dir.join("berth.db").display())),
            secret: Zeroizing::new(r.secret()),
            listen: r.parsed("BERTH_LISTEN", "an address and port, such as 127.0.0.1:8700"),
            internal_listen: r.parsed("BERTH_INTERNAL_LISTEN", "an address and port, such as 127.0.0.1:8701"),
            quota_port: r.parsed("BERTH_QUOTA_PORT", "a port"),
            containers: r.containers(&data_dir),
            freeze_after: r.seconds("BERTH_FREEZE_AFTER_SECONDS"),
            stop_after: r.seconds("BERTH_STOP_AFTER_SECONDS"),
            wake_timeout: r.seconds("BERTH_WAKE_TIMEOUT_SECONDS"),
            allowance_nanodollars: r.dollars("BERTH_ALLOWANCE_DOLLARS"),
            calls_at_once: r.parsed("BERTH_CALLS_AT_ONCE", "a whole number"),
            anthropic: r.upstream("ANTHROPIC_API_KEY", "BERTH_ANTHROPIC_URL", &format!("http://{demo_listen}")),
            openai: r.upstream("OPENAI_API_KEY", "BERTH_OPENAI_URL", &format!("http://{demo_listen}")),
            demo_listen,
            signups_open: r.one_of("BERTH_SIGNUPS", "open", "closed"),
            log: r.text("BERTH_LOG"),
            log_json: r.one_of("BERTH_LOG_FORMAT", "json", "pretty"),
            data_dir,
            hosts,
        };
        if config.stop_after <= config.freeze_after {
            r.mistakes.push("BERTH_STOP_AFTER_SECONDS must be more than BERTH_FREEZE_AFTER_SECONDS: an instance is frozen first, stopped later.".into());
        }
        if r.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(r.mistakes)) }
    }

    /// Where the running platform listens for the operator's commands.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.data_dir.join("run/control.sock")
    }
}

impl ContainerConfig {
    /// Reads only what the provisioner needs, so that it never holds the platform's secrets.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn from_env() -> Result<Self, Mistakes> {
        let mut r = Reader { lookup: &environment, mistakes: Vec::new() };
        let data_dir = PathBuf::from(r.text("BERTH_DATA_DIR"));
        let config = r.containers(&data_dir);
        if r.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(r.mistakes)) }
    }
}

/// Where the demo model listens: all it reads, so that it holds no secret.
///
/// # Errors
/// When it is no address.
pub fn demo_listen_from_env() -> Result<SocketAddr, Mistakes> {
    let mut r = Reader { lookup: &environment, mistakes: Vec::new() };
    let listen = r.parsed("BERTH_DEMO_LISTEN", "an address and port, such as 127.0.0.1:8703");
    if r.mistakes.is_empty() { Ok(listen) } else { Err(Mistakes(r.mistakes)) }
}

/// What is logged, for a part that reads nothing else.
#[derive(Clone, Debug)]
pub struct LogConfig {
    pub filter: String,
    pub json: bool,
}

impl LogConfig {
    /// Reads the two variables.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn from_env() -> Result<Self, Mistakes> {
        let mut r = Reader { lookup: &environment, mistakes: Vec::new() };
        let config = Self { filter: r.text("BERTH_LOG"), json: r.one_of("BERTH_LOG_FORMAT", "json", "pretty") };
        if r.mistakes.is_empty() { Ok(config) } else { Err(Mistakes(r.mistakes)) }
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the door through which the environment comes in")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

struct Reader<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    mistakes: Vec<String>,
}

impl Reader<'_> {
    fn optional(&self, name: &str) -> Option<String> {
        (self.lookup)(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty())
    }

    fn text(&self, name: &'static str) -> String {
        let default = VARIABLES.iter().find(|v| v.name == name).expect("every variable read is listed").default;
        self.optional(name).unwrap_or_else(|| default.to_owned())
    }

    fn parsed<T: FromStr>(&mut self, name: &'static str, what: &str) -> T
    where
        T: Placeholder,
    {
        let text = self.text(name);
        text.parse().unwrap_or_else(|_| {
            self.mistakes.push(format!("{name} is \"{text}\", which is not {what}."));
            T::placeholder()
        })
    }

    fn seconds(&mut self, name: &'static str) -> Duration {
        let seconds: u32 = self.parsed(name, "a whole number of seconds");
        if seconds == 0 {
            self.mistakes.push(format!("{name} is 0; it must be at least 1 second."));
        }
        Duration::from_secs(u64::from(seconds))
    }

    fn one_of(&mut self, name: &'static str, yes: &str, no: &str) -> bool {
        let text = self.text(name);
        if text != yes && text != no {
            self.mistakes.push(format!("{name} is \"{text}\"; it is either {yes} or {no}."));
        }
        text == yes
    }

    fn secret(&mut self) -> String {
        let secret = self.optional("BERTH_SECRET").unwrap_or_default();
        if secret.chars().count() < 32 {
            self.mistakes.push(
                "BERTH_SECRET is missing or shorter than 32 characters. Make one with: openssl rand -base64 32".into(),
            );
        }
        secret
    }

    fn dollars(&mut self, name: &'static str) -> i64 {
        let text = self.text(name);
        parse_dollars(&text).unwrap_or_else(|| {
            self.mistakes.push(format!("{name} is \"{text}\", which is not an amount in dollars such as 5 or 2.50."));
            0
        })
    }

    fn upstream(&mut self, key: &'static str, url: &'static str, demo: &str) -> Upstream {
        let Some(key) = self.optional(key) else {
            return Upstream { url: demo.to_owned(), key: None };
        };
        let address = self.text(url).trim_end_matches('/').to_owned();
        if !address.starts_with("https://") && !address.starts_with("http://127.0.0.1") {
            self.mistakes
                .push(format!("{url} is \"{address}\"; it must start with https:// because a key is sent there."));
        }
        Upstream { url: address, key: Some(Zeroizing::new(key)) }
    }

    fn hosts(&mut self) -> Hosts {
        let apex = self.text("BERTH_DOMAIN").to_ascii_lowercase();
        let instances = self.optional("BERTH_INSTANCE_DOMAIN").map_or_else(|| apex.clone(), |d| d.to_ascii_lowercase());
        for (name, domain) in [("BERTH_DOMAIN", &apex), ("BERTH_INSTANCE_DOMAIN", &instances)] {
            let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
            if !domain.split('.').all(label) {
                self.mistakes.push(format!("{name} is \"{domain}\", which is not a domain name such as example.com."));
            }
        }
        let port: u16 = self.parsed("BERTH_HTTPS_PORT", "a port");
        let port = if port == 443 { String::new() } else { format!(":{port}") };
        Hosts { app: format!("app.{apex}"), apex, instances, port }
    }

    fn containers(&mut self, data_dir: &std::path::Path) -> ContainerConfig {
        let network = self.text("BERTH_NETWORK");
        // A Linux interface name has at most 15 characters; the bridge's number takes two.
        if !(1..=11).contains(&network.len()) || !network.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        {
            self.mistakes.push(format!("BERTH_NETWORK is \"{network}\"; use 1 to 11 small letters and digits."));
        }
        let subnet: Ipv4Addr = self.parsed("BERTH_SUBNET", "an IPv4 address such as 10.89.0.0");
        if !subnet.is_private() || subnet.octets()[2..] != [0, 0] {
            self.mistakes
                .push(format!("BERTH_SUBNET is {subnet}; it must be the start of a private /16, such as 10.89.0.0."));
        }
        let bridges: u8 = self.parsed("BERTH_BRIDGES", "a whole number");
        if !(1..=64).contains(&bridges) {
            self.mistakes.push(format!("BERTH_BRIDGES is {bridges}; it must be from 1 to 64."));
        }
        let images: Vec<String> =
            self.text("BERTH_IMAGES").split(',').map(|i| i.trim().to_owned()).filter(|i| !i.is_empty()).collect();
        if images.is_empty() {
            self.mistakes.push("BERTH_IMAGES names no image.".into());
        }
        let cpus: f64 = self.parsed("BERTH_CPUS", "a number of cores such as 0.5");
        if !(0.01..=1024.0).contains(&cpus) {
            self.mistakes.push(format!("BERTH_CPUS is {cpus}; it must be from 0.01 to 1024."));
        }
        ContainerConfig {
            socket: data_dir.join("run/provisioner.sock"),
            network,
            subnet,
            bridges,
            images,
            memory_mib: self.parsed("BERTH_MEMORY_MIB", "a whole number of MiB"),
            swap_mib: self.parsed("BERTH_SWAP_MIB", "a whole number of MiB"),
            #[expect(clippy::cast_possible_truncation, reason = "at most 1024 cores, checked above")]
            nano_cpus: (cpus * 1e9) as i64,
            pids: self.parsed("BERTH_PIDS", "a whole number"),
            instance_port: 8080,
            quota_port: self.parsed("BERTH_QUOTA_PORT", "a port"),
        }
    }
}

/// What stands in for a value that did not parse, until the mistakes are reported and nothing starts.
trait Placeholder {
    fn placeholder() -> Self;
}

macro_rules! placeholder {
    ($($type:ty => $value:expr),*) => { $(impl Placeholder for $type { fn placeholder() -> Self { $value } })* };
}
placeholder!(u8 => 1, u16 => 1, u32 => 1, f64 => 1.0, Ipv4Addr => Ipv4Addr::new(10, 0, 0, 0), SocketAddr => SocketAddr::from(([127, 0, 0, 1], 0)));

/// `2.50` as nano-dollars: digits, at most nine of them behind the point.
fn parse_dollars(text: &str) -> Option<i64> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    if fraction.len() > 9 || !fraction.bytes().chain(whole.bytes()).all(|b| b.is_ascii_digit()) {
        return None;
    }
    let whole: i64 = whole.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    whole.checked_mul(1_000_000_000)?.checked_add(fraction)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config, Mistakes> {
        let set: std::collections::HashMap<String, String> =
            set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::read(&|name| set.get(name).cloned())
    }

    const SECRET: (&str, &str) = ("BERTH_SECRET", "0123456789abcdef0123456789abcdef");

    #[test]
    fn only_the_secret_must_be_set() {
        let config = read(&[SECRET]).unwrap();
        assert_eq!(config.hosts.app_origin(), "https://app.localhost");
        assert_eq!(config.allowance_nanodollars, 5_000_000_000);
        assert_eq!(config.anthropic.url, "http://127.0.0.1:8703");
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let Err(Mistakes(mistakes)) = read(&[
            ("BERTH_SECRET", "short"),
            ("BERTH_DOMAIN", "not a domain"),
            ("BERTH_STOP_AFTER_SECONDS", "soon"),
            ("BERTH_ALLOWANCE_DOLLARS", "five"),
            ("BERTH_SIGNUPS", "maybe"),
        ]) else {
            panic!("these settings were accepted")
        };
        for name in
            ["BERTH_SECRET", "BERTH_DOMAIN", "BERTH_STOP_AFTER_SECONDS", "BERTH_ALLOWANCE_DOLLARS", "BERTH_SIGNUPS"]
        {
            assert!(mistakes.iter().any(|m| m.starts_with(name)), "{name} is not in {mistakes:?}");
        }
    }

    #[test]
    fn dollars_become_nanodollars_without_rounding() {
        for (text, nano) in [
            ("5", Some(5_000_000_000)),
            ("2.5", Some(2_500_000_000)),
            ("0.000000001", Some(1)),
            ("0.0000000001", None),
            ("-1", None),
            ("", None),
        ] {
            assert_eq!(parse_dollars(text), nano, "{text}");
        }
    }
}
