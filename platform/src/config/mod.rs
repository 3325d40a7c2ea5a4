//! Configuration of the platform, read once from environment variables, with all mistakes reported together.

mod ai_calls;
mod parsers;
mod providers;
mod reader;

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub use ai_calls::{CallLimits, ProviderSettings, UnknownModels};
pub use berth_containers::config::{ContainerConfig, ContainerRuntime, DiskLimit, InstanceSize};
pub use berth_ground::settings::{LogConfig, SettingsError, SettingsReader, VARIABLES, Variable};
use berth_net::hosts::Hosts;
pub use parsers::parse_dollars;
pub use providers::{Dollars, MeteredApi, MeteredCall, ModelPrice, ModelProvider, Providers, WireFormat};
use zeroize::Zeroizing;

/// The validated settings of the platform.
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
    pub wake_timeout: Duration,
    /// The maximum size of the body of a request to an instance.
    pub upload_bytes: u64,
    /// Maximum number of concurrent container starts.
    pub starts_at_once: u32,
    /// Share of the host's memory to keep free.
    pub memory_reserve_percent: u32,
    /// In percent of one core: an instance that uses more processor time is at work.
    pub busy_cpu_percent: u32,
    /// The maximum time for which a declared job keeps an instance awake.
    pub job_limit: Duration,
    /// The limits on AI calls of accounts without limits of their own.
    pub limits: CallLimits,
    /// The retention time of receipts; the sums by day are kept forever.
    pub receipts_for: Duration,
    pub anthropic: ProviderSettings,
    pub openai: ProviderSettings,
    /// The service tier that the operator's OpenAI project gives to calls without one, in OpenAI's notation.
    pub openai_tier: String,
    pub unknown_models: UnknownModels,
    /// Further providers, from the operator's file.
    pub providers: Providers,
    pub demo_listen: SocketAddr,
    pub signups_open: bool,
    /// The rate limit on first certificates for names below our domain, per week. `None`: no limit, as with our own CA
    /// or a wildcard certificate.
    pub certificates_a_week: Option<NonZeroU32>,
    /// The maximum number of custom domains of an account; 0: none.
    pub domains_per_account: u32,
    /// The DNS server for proofs of custom domains; `None`: the resolver of this machine.
    pub dns: Option<SocketAddr>,
    pub log: LogConfig,
}

impl Config {
    /// Reads the environment of this process.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn from_env() -> Result<Self, SettingsError> {
        Self::read_with(SettingsReader::of_environment())
    }

    /// Reads settings from `lookup`, which gives a variable's value when it is set. Empty counts as not set.
    ///
    /// # Errors
    /// Every mistake found, each naming its variable.
    pub fn read(lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        Self::read_with(SettingsReader::new(lookup))
    }

    fn read_with(mut settings: SettingsReader<'_>) -> Result<Self, SettingsError> {
        let r = &mut settings;
        let hosts = reader::hosts(r);
        // First, because the default database and the sockets are in it.
        let data_dir = PathBuf::from(r.text("BERTH_DATA_DIR"));
        let demo_listen: SocketAddr = r.parsed("BERTH_DEMO_LISTEN", "an address and port, such as 127.0.0.1:8703");
        let config = Self {
            database_url: r
                .optional("DATABASE_URL")
                .unwrap_or_else(|| format!("sqlite:{}", data_dir.join("berth.db").display())),
            secret: Zeroizing::new(reader::secret(r)),
            listen: r.parsed("BERTH_LISTEN", "an address and port, such as 127.0.0.1:8700"),
            internal_listen: r.parsed("BERTH_INTERNAL_LISTEN", "an address and port, such as 127.0.0.1:8701"),
            quota_port: r.parsed("BERTH_QUOTA_PORT", "a port"),
            containers: ContainerConfig::read(r),
            wake_timeout: r.seconds("BERTH_WAKE_TIMEOUT_SECONDS"),
            upload_bytes: u64::from(r.between("BERTH_UPLOAD_MIB", 1, u32::MAX)) << 20,
            starts_at_once: r.between("BERTH_STARTS_AT_ONCE", 1, 1000),
            memory_reserve_percent: r.between("BERTH_MEMORY_RESERVE_PERCENT", 0, 90),
            busy_cpu_percent: r.between("BERTH_BUSY_CPU_PERCENT", 1, 100),
            job_limit: r.seconds("BERTH_JOB_LIMIT_SECONDS"),
            limits: reader::limits(r),
            receipts_for: Duration::from_secs(u64::from(r.between("BERTH_RECEIPT_DAYS", 62, 36_500)) * 86_400),
            anthropic: reader::upstream(
                r,
                "ANTHROPIC_API_KEY",
                "BERTH_ANTHROPIC_URL",
                &format!("http://{demo_listen}"),
            ),
            openai: reader::upstream(r, "OPENAI_API_KEY", "BERTH_OPENAI_URL", &format!("http://{demo_listen}")),
            openai_tier: r.named("BERTH_OPENAI_TIER", &["default", "flex", "priority", "ultrafast"]),
            unknown_models: reader::unknown_models(r),
            providers: reader::providers(r),
            demo_listen,
            domains_per_account: r.between("BERTH_DOMAINS_PER_ACCOUNT", 0, 100),
            dns: r.address_or_none("BERTH_DNS"),
            signups_open: r.one_of("BERTH_SIGNUPS", "open", "closed"),
            certificates_a_week: reader::certificates_a_week(r),
            log: LogConfig::read(r),
            data_dir,
            hosts,
        };
        settings.finish(config)
    }

    /// The socket on which the running platform accepts the operator's commands.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.data_dir.join("run/control.sock")
    }
}

/// Reads only the address of the demo model, so that its process holds no secret.
///
/// # Errors
/// When it is no address.
pub fn demo_listen_from_env() -> Result<SocketAddr, SettingsError> {
    let mut settings = SettingsReader::of_environment();
    let listen = settings.parsed("BERTH_DEMO_LISTEN", "an address and port, such as 127.0.0.1:8703");
    settings.finish(listen)
}

#[cfg(test)]
mod tests {
    use berth_ground::money::Nanodollars;

    use super::*;

    fn read(set: &[(&str, &str)]) -> Result<Config, SettingsError> {
        let set: std::collections::HashMap<String, String> =
            set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Config::read(&|name| set.get(name).cloned())
    }

    const SECRET: (&str, &str) = ("BERTH_SECRET", "0123456789abcdef0123456789abcdef");

    #[test]
    fn only_the_secret_must_be_set() {
        let config = read(&[SECRET]).unwrap();
        assert_eq!(config.hosts.app_origin(), "https://app.localhost");
        assert_eq!(config.limits.month_nanodollars, Nanodollars(5_000_000_000));
        assert_eq!(config.anthropic.url, "http://127.0.0.1:8703");
    }

    #[test]
    fn all_mistakes_are_reported_together() {
        let Err(SettingsError(mistakes)) = read(&[
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
    fn an_image_may_be_pinned_to_its_id() {
        let id = "a".repeat(64);
        let images = format!("one:1, two@sha256:{id}");
        let containers = read(&[SECRET, ("BERTH_IMAGES", &images)]).unwrap().containers;
        assert_eq!(containers.images, ["one:1", "two"]);
        assert!(!containers.is_pinned_otherwise("one:1", "sha256:anything"));
        assert!(!containers.is_pinned_otherwise("two", &format!("sha256:{id}")));
        assert!(containers.is_pinned_otherwise("two", "sha256:anything"));
        for wrong in ["two@sha256:1234", "two@latest", "@sha256:aa", "two@sha256:", "one:1,one:1"] {
            let Err(SettingsError(mistakes)) = read(&[SECRET, ("BERTH_IMAGES", wrong)]) else {
                panic!("{wrong} was accepted")
            };
            assert!(mistakes[0].starts_with("BERTH_IMAGES"), "{wrong}: {mistakes:?}");
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
            assert_eq!(parse_dollars(text), nano.map(Nanodollars), "{text}");
        }
    }
}
