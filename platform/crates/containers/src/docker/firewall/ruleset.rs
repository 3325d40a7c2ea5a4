//! The nftables ruleset: renders the egress policy of all instances as text for nft.

use std::fmt::Display;
use std::net::Ipv4Addr;

/// Rate limit on new connections of one instance, per second, after a burst; a page of a busy site opens a few dozen.
const NEW_A_SECOND: u32 = 50;
const BURST: u32 = 100;
/// Most concurrent connections of one instance: its share of the host's conntrack table, which all tenants fill
/// together.
const MAX_CONNECTIONS: u32 = 2000;

/// Address ranges outside the public internet (IANA's special-purpose registry, RFC 6890): this network, private
/// networks and carrier-grade NAT, loopback, link-local with its cloud metadata services, protocol assignments,
/// benchmarks, multicast, reserved.
const NOT_THE_INTERNET: [&str; 11] = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
];
/// SMTP, because spam from an instance would put the host's address on blocklists, and the ports of unprotected Docker
/// Engines.
const CLOSED_PORTS: [u16; 5] = [25, 465, 587, 2375, 2376];

/// The parameters of the table, which differ between hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::docker) struct EgressPolicy {
    /// Never empty.
    pub bridges: Vec<BridgeInterface>,
    pub quota_port: u16,
    /// The host's own name servers. The Engine's embedded resolver queries them from inside the container's network.
    pub name_servers: Vec<Ipv4Addr>,
}

/// One of our bridges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::docker) struct BridgeInterface {
    pub name: String,
    pub gateway: Ipv4Addr,
}

/// Renders the input of `nft -f`, which applies it as one transaction. The table is declared before it is deleted,
/// because deleting an absent table fails.
///
/// With `br_netfilter`, bridged packets pass the `forward` hook too, with the bridge on both sides.
pub(super) fn write(table: &str, policy: &EgressPolicy) -> String {
    let bridges = list(policy.bridges.iter().map(|bridge| format!("\"{}\"", bridge.name)));
    let gateways = list(policy.bridges.iter().map(|bridge| format!("\"{}\" . {}", bridge.name, bridge.gateway)));
    let (not_the_internet, closed, quota_port) = (list(NOT_THE_INTERNET), list(CLOSED_PORTS), policy.quota_port);
    let names = match policy.name_servers.as_slice() {
        [] => String::new(),
        servers => format!("ip daddr {} meta l4proto {{ tcp, udp }} th dport 53 goto counted", list(servers)),
    };
    format!(
        "table inet {table}
delete table inet {table}
table inet {table} {{
	set connections {{ type ipv4_addr; size 65535; flags dynamic; }}
	set new_connections {{ type ipv4_addr; size 65535; flags dynamic, timeout; timeout 1m; }}

	chain forward {{
		type filter hook forward priority filter - 10; policy accept;
		iifname {bridges} goto from_instance
		oifname {bridges} goto to_instance
	}}

	chain input {{
		type filter hook input priority filter - 10; policy accept;
		iifname {bridges} goto to_host
	}}

	chain from_instance {{
		oifname {bridges} drop comment \"neighbours\"
		meta nfproto != ipv4 drop
		ct state established, related accept
		{names}
		fib daddr type != unicast drop
		ip daddr {not_the_internet} drop
		tcp dport {closed} drop
		goto counted
	}}

	chain to_instance {{
		ct state established, related accept
		drop comment \"only the platform calls, and it is on this host\"
	}}

	chain to_host {{
		ct state established, related accept
		iifname . ip daddr {gateways} tcp dport {quota_port} goto counted
		{names}
		drop
	}}

	chain counted {{
		ct state invalid drop
		ct state new add @connections {{ ip saddr ct count over {MAX_CONNECTIONS} }} drop
		ct state new update @new_connections {{ ip saddr limit rate over {NEW_A_SECOND}/second burst {BURST} packets }} drop
	}}
}}
"
    )
}

/// An anonymous set in nft's syntax.
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

/// The name servers in a resolv.conf(5) that are reached over a network. A loopback address is the host's own resolver,
/// which the Engine queries from the host's network namespace.
pub(in crate::docker) fn name_servers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        // Injection: only text that parses as an address enters the rules. The file is not ours, and its text must not
        // become nft syntax.
        let address = words.next().and_then(|address| address.parse::<Ipv4Addr>().ok());
        found.extend(address.filter(|address| !address.is_loopback() && !address.is_unspecified()));
    }
    // Sorted, because another order would be another table, and installing it would reset the connection counts.
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> EgressPolicy {
        let bridge = |n: u8| BridgeInterface { name: format!("berth{n}"), gateway: Ipv4Addr::new(10, 89, n * 4, 1) };
        EgressPolicy {
            bridges: vec![bridge(0), bridge(1)],
            quota_port: 8702,
            name_servers: vec![Ipv4Addr::new(192, 168, 1, 1)],
        }
    }

    #[test]
    fn the_table_is_the_one_that_was_agreed_on() {
        let golden = include_str!("golden.nft");
        assert_eq!(
            write("instances-berth", &policy()),
            golden,
            "if that is wanted, change firewall/golden.nft with it"
        );
    }

    #[test]
    fn a_host_that_asks_nobody_for_names_opens_no_port_for_it() {
        let without = write("instances-berth", &EgressPolicy { name_servers: Vec::new(), ..policy() });
        assert!(!without.contains("dport 53"));
    }

    #[test]
    fn name_servers_are_those_asked_over_a_network() {
        for (text, servers) in [
            ("nameserver 10.0.0.2\n", vec![Ipv4Addr::new(10, 0, 0, 2)]),
            ("# nameserver 10.0.0.2\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n", vec![]),
            (
                "nameserver 9.9.9.9 \nnameserver fe80::1%eth0\nnameserver 1.1.1.1\nnameserver 9.9.9.9",
                vec![Ipv4Addr::new(1, 1, 1, 1), Ipv4Addr::new(9, 9, 9, 9)],
            ),
            ("nameserver\nnameserver }; flush ruleset\n", vec![]),
            ("", vec![]),
        ] {
            assert_eq!(name_servers(text), servers, "{text}");
        }
    }
}
