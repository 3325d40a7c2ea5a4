//! The text of our nftables table: what an instance may reach, said once for all of them.

use std::fmt::Display;
use std::net::Ipv4Addr;

/// Connections one instance may open a second, after a burst; a page of a busy site opens some dozen.
const NEW_A_SECOND: u32 = 50;
const BURST: u32 = 100;
/// Connections one instance may have at once: its share of the host's table of them, which all tenants fill together.
const AT_ONCE: u32 = 2000;

/// What is not the internet (IANA's special-purpose registry, RFC 6890): this network, private networks and carriers',
/// loopback, the link with its metadata services, protocol assignments, benchmarks, multicast, reserved.
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
/// Mail, for which the host's address would be listed as a sender of spam, and Docker Engines that somebody left open.
const CLOSED_PORTS: [u16; 5] = [25, 465, 587, 2375, 2376];

/// What differs between two hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::docker) struct Reach {
    /// Never empty.
    pub bridges: Vec<Bridge>,
    pub quota_port: u16,
    /// What the host itself asks for names. The Engine's own resolver asks them from inside the container's network.
    pub name_servers: Vec<Ipv4Addr>,
}

/// A bridge of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::docker) struct Bridge {
    pub name: String,
    pub gateway: Ipv4Addr,
}

/// A file for `nft -f`, which does all of it or nothing. The table is named before it is taken away, because taking away
/// what is not there fails.
///
/// What is bridged passes `forward` too, with the bridge on both sides, where the kernel has `br_netfilter`.
pub(super) fn write(table: &str, reach: &Reach) -> String {
    let bridges = list(reach.bridges.iter().map(|bridge| format!("\"{}\"", bridge.name)));
    let gateways = list(reach.bridges.iter().map(|bridge| format!("\"{}\" . {}", bridge.name, bridge.gateway)));
    let (not_the_internet, closed, quota_port) = (list(NOT_THE_INTERNET), list(CLOSED_PORTS), reach.quota_port);
    let names = match reach.name_servers.as_slice() {
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
		ct state new add @connections {{ ip saddr ct count over {AT_ONCE} }} drop
		ct state new update @new_connections {{ ip saddr limit rate over {NEW_A_SECOND}/second burst {BURST} packets }} drop
	}}
}}
"
    )
}

/// An anonymous set.
fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    format!("{{ {} }}", items.join(", "))
}

/// The addresses in a resolv.conf(5) that are asked over a network. Those on loopback are the host's own resolver, which the
/// Engine asks from the host's side.
pub(in crate::docker) fn name_servers(resolv_conf: &str) -> Vec<Ipv4Addr> {
    let mut found = Vec::new();
    for line in resolv_conf.lines() {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            continue;
        }
        let address = words.next().and_then(|address| address.parse::<Ipv4Addr>().ok());
        found.extend(address.filter(|address| !address.is_loopback() && !address.is_unspecified()));
    }
    found.sort_unstable();
    found.dedup();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach() -> Reach {
        let bridge = |n: u8| Bridge { name: format!("berth{n}"), gateway: Ipv4Addr::new(10, 89, n * 4, 1) };
        Reach {
            bridges: vec![bridge(0), bridge(1)],
            quota_port: 8702,
            name_servers: vec![Ipv4Addr::new(192, 168, 1, 1)],
        }
    }

    #[test]
    fn the_table_is_the_one_that_was_agreed_on() {
        let golden = include_str!("golden.nft");
        assert_eq!(write("instances-berth", &reach()), golden, "if that is wanted, change firewall/golden.nft with it");
    }

    #[test]
    fn a_host_that_asks_nobody_for_names_opens_no_port_for_it() {
        let without = write("instances-berth", &Reach { name_servers: Vec::new(), ..reach() });
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
