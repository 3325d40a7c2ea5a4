//! Looking a proof up in DNS: with a deadline, so much of the answer and no more, and never from a cache of ours.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use super::rules::{self, PROOF_LABEL, ProofLookup};

/// How long both questions about one domain may take.
const ANSWERED_WITHIN: Duration = Duration::from_secs(6);
/// How long one server is waited for.
const SERVER_WITHIN: Duration = Duration::from_secs(2);
/// Records of an answer that are looked at.
const MOST_RECORDS: usize = 32;

/// Where to ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum DnsServer {
    /// What `/etc/resolv.conf` names, read at each look: it changes.
    System,
    Server(SocketAddr),
}

impl DnsServer {
    /// Whether `name` is proven: a TXT record below it says `proof`, or it is an alias of `host`.
    pub(super) async fn look_up(self, name: &str, proof: &str, host: &str) -> ProofLookup {
        let asked = async {
            let resolver = self.resolver()?;
            let says = |record: &Record| says(record, proof);
            let leads = |record: &Record| leads_to(record, host);
            if ask(&resolver, &format!("{PROOF_LABEL}{name}."), RecordType::TXT, says).await? {
                return Ok(true);
            }
            ask(&resolver, &format!("{name}."), RecordType::CNAME, leads).await
        };
        match tokio::time::timeout(ANSWERED_WITHIN, asked).await {
            Ok(Ok(true)) => ProofLookup::Found,
            Ok(Ok(false)) => ProofLookup::Missing,
            Ok(Err(error)) => {
                tracing::debug!(domain = name, %error, "DNS did not answer");
                ProofLookup::NoAnswer
            }
            Err(_) => ProofLookup::NoAnswer,
        }
    }

    fn resolver(self) -> Result<TokioResolver, NetError> {
        let mut builder = match self {
            Self::System => TokioResolver::builder_tokio()?,
            Self::Server(address) => {
                let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()];
                let connections = connections.map(|connection| on_port(connection, address.port())).into();
                let server = NameServerConfig::new(address.ip(), true, connections);
                let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
                TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
            }
        };
        let options: &mut ResolverOpts = builder.options_mut();
        options.timeout = SERVER_WITHIN;
        options.cache_size = 0;
        // An alias itself is what is asked for, not where it leads.
        options.preserve_intermediates = true;
        builder.build()
    }
}

fn on_port(mut connection: ConnectionConfig, port: u16) -> ConnectionConfig {
    connection.port = port;
    connection
}

/// Whether one of the records is as wanted. A server that says that there is none answered as well.
async fn ask(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
    wanted: impl Fn(&Record) -> bool,
) -> Result<bool, NetError> {
    match resolver.lookup(name, kind).await {
        Ok(found) => Ok(found.answers().iter().take(MOST_RECORDS).any(wanted)),
        Err(error) if error.is_no_records_found() || error.is_nx_domain() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A text longer than 255 bytes comes in pieces; ours is one.
fn says(record: &Record, proof: &str) -> bool {
    match &record.data {
        RData::TXT(txt) => txt.txt_data.iter().any(|piece| piece.as_ref() == proof.as_bytes()),
        _ => false,
    }
}

fn leads_to(record: &Record, host: &str) -> bool {
    match &record.data {
        RData::CNAME(alias) => rules::normal(&alias.0.to_ascii()) == host,
        _ => false,
    }
}
