//! The DNS lookup of a domain's proof: with a timeout, a bound on the examined answer, and no cache.

use std::net::SocketAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, Record, RecordType};

use super::rules::{self, PROOF_LABEL, ProofLookup};

/// Timeout of both queries for one domain together.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(6);
/// Timeout of one query to one name server.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);
/// Most records of an answer that are examined.
const MOST_RECORDS: usize = 32;

/// The name servers to query.
#[derive(Clone, Copy, Debug)]
pub(super) enum DnsServer {
    /// The servers in `/etc/resolv.conf`, which is read at each lookup because it can change.
    System,
    Server(SocketAddr),
}

impl DnsServer {
    /// Whether `name` is proven: a TXT record below it contains `proof`, or its CNAME is `host`.
    pub(super) async fn look_up(self, name: &str, proof: &str, host: &str) -> ProofLookup {
        let lookup = async {
            let resolver = self.resolver()?;
            let has_proof = |record: &Record| is_txt_with(record, proof);
            let is_alias = |record: &Record| is_cname_to(record, host);
            // Fully qualified names, with a trailing dot: otherwise the resolver would also try the search domains of
            // `/etc/resolv.conf`, and a record in the operator's own zone could answer for the name.
            if any_record(&resolver, &format!("{PROOF_LABEL}{name}."), RecordType::TXT, has_proof).await? {
                return Ok(true);
            }
            any_record(&resolver, &format!("{name}."), RecordType::CNAME, is_alias).await
        };
        match tokio::time::timeout(LOOKUP_TIMEOUT, lookup).await {
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
        options.timeout = SERVER_TIMEOUT;
        // No cache: an owner requests a check right after writing the record, and a cached negative answer would be
        // returned until its time to live ends.
        options.cache_size = 0;
        // The CNAME record itself is needed. By default the resolver follows it and returns only the addresses at its
        // end.
        options.preserve_intermediates = true;
        builder.build()
    }
}

fn on_port(mut connection: ConnectionConfig, port: u16) -> ConnectionConfig {
    connection.port = port;
    connection
}

/// Whether an answer contains a record that `matches`. Fails when no server answered.
async fn any_record(
    resolver: &TokioResolver,
    name: &str,
    kind: RecordType,
    matches: impl Fn(&Record) -> bool,
) -> Result<bool, NetError> {
    match resolver.lookup(name, kind).await {
        Ok(found) => Ok(found.answers().iter().take(MOST_RECORDS).any(matches)),
        // NXDOMAIN and NODATA are answers. Any other failure (SERVFAIL, a timeout) says nothing about the proof.
        Err(error) if error.is_no_records_found() || error.is_nx_domain() => Ok(false),
        Err(error) => Err(error),
    }
}

fn is_txt_with(record: &Record, proof: &str) -> bool {
    match &record.data {
        // A text longer than 255 bytes is split into several strings (RFC 1035, 3.3.14). The proof is shorter, so it is
        // one string.
        RData::TXT(txt) => txt.txt_data.iter().any(|piece| piece.as_ref() == proof.as_bytes()),
        _ => false,
    }
}

fn is_cname_to(record: &Record, host: &str) -> bool {
    match &record.data {
        RData::CNAME(alias) => rules::normal(&alias.0.to_ascii()) == host,
        _ => false,
    }
}
