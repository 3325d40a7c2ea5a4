//! The list of environment variables, each with its default and its text in `.env.example`.

/// An environment variable as `.env.example` documents it; an architecture test compares the two.
#[derive(Clone, Copy, Debug)]
pub struct Variable {
    pub name: &'static str,
    /// The value when the variable is not set; empty when there is none.
    pub default: &'static str,
    /// Its meaning, its unit, and a reason to change it.
    pub doc: &'static str,
}

/// A variable that holds a secret, and the only part that may read it. The scripts, systemd units and compose file keep
/// it from the others.
#[derive(Clone, Copy, Debug)]
pub struct SecretVariable {
    pub name: &'static str,
    pub reader: SecretReader,
}

/// A part of an installation that reads secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SecretReader {
    Platform,
    Caddy,
}

/// Every variable that holds a secret.
pub const SECRETS: &[SecretVariable] = &[
    SecretVariable { name: "BERTH_SECRET", reader: SecretReader::Platform },
    // Contains PostgreSQL's password.
    SecretVariable { name: "DATABASE_URL", reader: SecretReader::Platform },
    SecretVariable { name: "ANTHROPIC_API_KEY", reader: SecretReader::Platform },
    SecretVariable { name: "OPENAI_API_KEY", reader: SecretReader::Platform },
    // The whole DNS zone.
    SecretVariable { name: "BERTH_DNS_TOKEN", reader: SecretReader::Caddy },
];

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
    var(
        "BERTH_ACME_DIRECTORY",
        "https://acme-v02.api.letsencrypt.org/directory",
        "The ACME directory: Let's Encrypt, its staging, or an authority of your own, if this machine trusts its root.",
    ),
    var(
        "BERTH_CERTIFICATES_A_WEEK",
        "40",
        "Rate limit on first certificates per week, with acme and without a wildcard; further names queue. Let's Encrypt allows a domain 50. 0: no limit.",
    ),
    var("BERTH_DNS_PROVIDER", "", "Your DNS provider's module in Caddy: one wildcard for 40 sign-ups a week or more."),
    var("BERTH_DNS_TOKEN", "", "The credential for that provider's API. Only Caddy uses it."),
    var("BERTH_DATA_DIR", "./.berth", "Where the database, logs, sockets and Caddy's certificates live."),
    var(
        "BERTH_VOLUMES_DIR",
        "",
        "Where the provisioner keeps the files of volumes and the marks of those to be destroyed: a folder below folders of root alone where the platform runs as another user. Default: volumes in BERTH_DATA_DIR. Move what is in it along.",
    ),
    var(
        "DATABASE_URL",
        "",
        "sqlite:PATH or postgres://... Default: a SQLite file in BERTH_DATA_DIR. PostgreSQL when you run one already. One platform at a time may use it.",
    ),
    var(
        "BERTH_SECRET",
        "",
        "At least 32 random characters; all keys are derived from it. Losing it loses every one-time-code secret. scripts/up makes one.",
    ),
    var(
        "BERTH_LISTEN",
        "127.0.0.1:8700",
        "Where the platform listens for Caddy. Loopback, because it trusts X-Forwarded-For from there.",
    ),
    var(
        "BERTH_INTERNAL_LISTEN",
        "127.0.0.1:8701",
        "Where Caddy asks about certificates, and /healthz and /metrics answer. Keep it on loopback.",
    ),
    var(
        "BERTH_QUOTA_PORT",
        "8702",
        "The quota proxy's port on each bridge's own address, where only instances reach it. Takes effect when an instance next starts.",
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
        "Images an instance may run, separated by commas; the first is the default. NAME:TAG@sha256:ID allows only the image with that id under the name (docker inspect -f {{.Id}} NAME:TAG tells it). Takes effect when an instance next starts.",
    ),
    var(
        "BERTH_RUNTIME",
        "runc",
        "runc, or runsc for gVisor: a kernel of its own for every instance, slower in system calls. The Engine must have it. Takes effect when an instance next starts.",
    ),
    var("BERTH_MEMORY_MIB", "512", "Memory of an instance in MiB. Takes effect when an instance next starts."),
    var(
        "BERTH_SWAP_MIB",
        "512",
        "Swap an instance may use beyond its memory, in MiB. A frozen instance is handed to swap; 0 keeps it in memory. Takes effect when an instance next starts.",
    ),
    var(
        "BERTH_CPUS",
        "1",
        "Processor cores an instance may use, such as 0.5. Takes effect when an instance next starts.",
    ),
    var("BERTH_PIDS", "256", "Processes and threads an instance may have. Takes effect when an instance next starts."),
    var("BERTH_DISK_MIB", "5120", "Size of a new volume in MiB."),
    var(
        "BERTH_DISK",
        "none",
        "The limit on a volume: image (a file system of its own in a sparse file, blocks and inodes bounded) or none. scripts/up chooses image where mkfs.ext4 and losetup are available. Applies to volumes created from then on.",
    ),
    var(
        "BERTH_DELETE_AFTER_SECONDS",
        "604800",
        "Grace period after the deletion of an account was requested, before its container, files and logins are destroyed. The provisioner enforces it by its own clock.",
    ),
    var("BERTH_FREEZE_AFTER_SECONDS", "300", "Idle time after which an instance is frozen."),
    var("BERTH_STOP_AFTER_SECONDS", "1800", "Idle time after which it is stopped."),
    var(
        "BERTH_REMOVE_AFTER_SECONDS",
        "2592000",
        "Idle time after which its container is removed and its volume kept; the next visit makes a new one. 30 days.",
    ),
    var(
        "BERTH_SIZES",
        "",
        "Further sizes beside the standard one, as NAME field=value ..; NAME .. with the fields memory_mib, swap_mib, cpus, pids, disk_mib, freeze_after_seconds, stop_after_seconds, remove_after_seconds. A field that is left out is as in the standard size.",
    ),
    var(
        "BERTH_BUSY_CPU_PERCENT",
        "5",
        "Processor time, in percent of one core, above which an instance counts as at work even without requests. Idle servers stay below 1.",
    ),
    var(
        "BERTH_JOB_LIMIT_SECONDS",
        "21600",
        "Maximum time for which a declared job keeps its instance awake before it has to be declared again.",
    ),
    var(
        "BERTH_WAKE_TIMEOUT_SECONDS",
        "30",
        "How long a program's request is held for an instance to become ready before it gets 503.",
    ),
    var(
        "BERTH_UPLOAD_MIB",
        "10240",
        "The largest body of one request to an instance, in MiB; a larger one gets 413. Streamed, never kept.",
    ),
    var("BERTH_STARTS_AT_ONCE", "8", "Maximum concurrent container starts; others queue. Thawing does not count."),
    var(
        "BERTH_MEMORY_RESERVE_PERCENT",
        "10",
        "Share of the host's memory to keep free, in percent. Below it, the least recently used instances are put to sleep, and none is started.",
    ),
    var(
        "BERTH_ALLOWANCE_DOLLARS",
        "5",
        "What an account may spend on AI calls in a calendar month (UTC), in US dollars.",
    ),
    var("BERTH_DAY_DOLLARS", "", "The part of it that an account may spend in a day (UTC). Not set: all of it."),
    var(
        "BERTH_REQUESTS_A_MINUTE",
        "",
        "Rate limit on an account's AI calls, per minute: a token bucket that refills evenly. Not set: no limit.",
    ),
    var(
        "BERTH_TOKENS_A_MINUTE",
        "",
        "Rate limit on the tokens of an account's AI calls, input and output, per minute; a call in flight counts with its upper bound. Not set: no limit.",
    ),
    var(
        "BERTH_RECEIPT_DAYS",
        "400",
        "Retention of receipts of AI calls, in days, 62 or more; their sums by day are kept forever.",
    ),
    var("BERTH_CALLS_AT_ONCE", "5", "Concurrent AI calls of an account, shared fairly between its agents."),
    var(
        "ANTHROPIC_API_KEY",
        "",
        "The provider key for Anthropic calls. Not set: the demo model answers them. Several, separated by commas, are used in turn; one that the provider refuses is skipped for a while.",
    ),
    var(
        "OPENAI_API_KEY",
        "",
        "The provider key for OpenAI calls. Not set: the demo model answers them. Several, separated by commas, are used in turn; one that the provider refuses is skipped for a while.",
    ),
    var(
        "BERTH_ANTHROPIC_URL",
        "https://api.anthropic.com",
        "Where Anthropic calls go when its key is set, and always under accounts' own keys.",
    ),
    var(
        "BERTH_OPENAI_URL",
        "https://api.openai.com",
        "Where OpenAI calls go when its key is set, and always under accounts' own keys.",
    ),
    var(
        "BERTH_PROVIDERS",
        "",
        "A JSON file of further providers: models behind the wire shape of OpenAI or Anthropic, and other APIs priced by the call; see docs/providers.md.",
    ),
    var(
        "BERTH_UNKNOWN_MODELS",
        "refuse",
        "Policy for a model that the price table lacks, of a provider that it has: refuse, or dearest, which holds and charges that provider's highest prices until berth prices reprice refunds the difference.",
    ),
    var(
        "BERTH_OPENAI_TIER",
        "default",
        "The service tier of your OpenAI project, which applies to calls without one: default, flex, priority or ultrafast. Holds use the more expensive of it and default.",
    ),
    var(
        "BERTH_DEMO_LISTEN",
        "127.0.0.1:8703",
        "Where the demo model listens. It answers the calls for which no provider key is set.",
    ),
    var(
        "BERTH_DOMAINS_PER_ACCOUNT",
        "3",
        "Custom domains per account for its instance, each proved by a DNS record; 0 allows none.",
    ),
    var(
        "BERTH_DNS",
        "",
        "The DNS server for proofs of custom domains, as address:port. Default: the resolvers of this machine.",
    ),
    var("BERTH_SIGNUPS", "open", "open or closed. Closed, only the operator's set-up link makes an account."),
    var("BERTH_LOG", "info", "The log filter, in the syntax of tracing's EnvFilter, such as info,berth::edge=debug."),
    var("BERTH_LOG_FORMAT", "pretty", "pretty or json."),
];

const fn var(name: &'static str, default: &'static str, doc: &'static str) -> Variable {
    Variable { name, default, doc }
}
