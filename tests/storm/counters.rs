//! What is counted: drops of netd's by reason, and the kernel's own.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use netd_tests::lab::Lab;

use crate::ground::Room;
use crate::plan::Carrier;
use crate::world::{Counts, World};

/// How long a look is good for.
const FRESH: Duration = Duration::from_millis(500);
/// Packets for which a CPU's queue had no room.
const BACKLOG: &str = "backlog";
/// What the kernel counts when it drops a packet, in /proc/net/snmp, snmp6 and netstat.
const KERNEL: [&str; 18] = [
    "IpInHdrErrors",
    "IpInAddrErrors",
    "IpInUnknownProtos",
    "IpInDiscards",
    "IpOutDiscards",
    "IpOutNoRoutes",
    "IpExtInNoRoutes",
    "TcpExtIPReversePathFilter",
    "UdpNoPorts",
    "UdpInErrors",
    "Ip6InHdrErrors",
    "Ip6InAddrErrors",
    "Ip6InUnknownProtos",
    "Ip6InDiscards",
    "Ip6InNoRoutes",
    "Ip6OutNoRoutes",
    "Udp6NoPorts",
    "Udp6InErrors",
];

impl World {
    /// Looks at what was refused, if the last look is old.
    pub(crate) fn look_at_counters(&mut self) {
        let looks = &mut self.counters.looks;
        if looks.last().is_none_or(|(when, _)| when.elapsed() > FRESH) {
            looks.push((Instant::now(), refusals(&self.lab)));
            let old = looks.len().saturating_sub(64);
            looks.drain(..old);
        }
    }

    /// Whether a packet of the honest may have been refused since then, or lost by the kernel's queues.
    pub(crate) fn refused_since(&self, since: Instant, carrier: Carrier) -> bool {
        let before = self.counters.looks.iter().rev().find(|(when, _)| *when <= since);
        before.is_none_or(|(_, before)| {
            growth(before, &refusals(&self.lab)).keys().any(|reason| may_meet(reason, self.room, carrier))
        })
    }
}

/// Whether the honest may meet a refusal.
fn may_meet(reason: &str, room: Room, carrier: Carrier) -> bool {
    match reason {
        BACKLOG => true,
        "table_full" | "quota" => room == Room::Scarce,
        // There are always enough ports, but an echo has few identifiers, and a tunnel none.
        "collision" => matches!(carrier, Carrier::Raw(_)),
        _ => false,
    }
}

/// Packets that netd has dropped, by reason.
pub(crate) fn netd(lab: &Lab) -> Counts {
    let status = lab.netd(&["--json", "status"]).ok().json();
    let drops = status["drops"].as_array().expect("drops").iter();
    drops
        .map(|drop| {
            let packets = drop["packets"].as_u64().expect("a count");
            (drop["reason"].as_str().expect("a reason").to_owned(), packets)
        })
        .collect()
}

/// What has been counted since an earlier look.
pub(crate) fn growth(before: &Counts, after: &Counts) -> Counts {
    after
        .iter()
        .map(|(name, count)| (name.clone(), count - before.get(name).copied().unwrap_or(0)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn refusals(lab: &Lab) -> Counts {
    let mut counts = netd(lab);
    counts.insert(BACKLOG.to_owned(), backlog());
    counts
}

/// Packets for which a CPU's queue had no room, the second word of each of its lines; the machine's.
fn backlog() -> u64 {
    let text = fs::read_to_string("/proc/net/softnet_stat").expect("read the queues' counters");
    text.lines().filter_map(|line| u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok()).sum()
}

/// Packets with a source or destination that cannot be, as the routing table counts them; the machine's.
fn martians() -> u64 {
    let text = fs::read_to_string("/proc/net/stat/rt_cache").expect("read the routing table's counters");
    let names: Vec<&str> = text.lines().next().unwrap_or_default().split_ascii_whitespace().collect();
    let counts = text.lines().skip(1).flat_map(|line| names.iter().zip(line.split_ascii_whitespace()));
    counts
        .filter(|(name, _)| ["in_martian_dst", "in_martian_src"].contains(name))
        .filter_map(|(_, count)| u64::from_str_radix(count, 16).ok())
        .sum()
}

/// Packets that the host's kernel has dropped and counted.
pub(crate) fn kernel(lab: &Lab) -> Counts {
    let mut all = lab.host.run(|| {
        let read = |name: &str| {
            fs::read_to_string(format!("/proc/thread-self/net/{name}")).expect("read the kernel's counters")
        };
        let mut all = BTreeMap::new();
        for name in ["snmp", "netstat"] {
            let text = read(name);
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.chunks_exact(2) {
                let group = pair[0].split(':').next().unwrap_or_default();
                let names = pair[0].split_ascii_whitespace().skip(1);
                for (name, value) in names.zip(pair[1].split_ascii_whitespace().skip(1)) {
                    all.insert(format!("{group}{name}"), value.parse().unwrap_or(0));
                }
            }
        }
        for line in read("snmp6").lines() {
            if let Some((name, value)) = line.split_once(char::is_whitespace) {
                all.insert(name.to_owned(), value.trim().parse().unwrap_or(0));
            }
        }
        all
    });
    all.retain(|name, _| KERNEL.contains(&name.as_str()));
    all.extend([(BACKLOG.to_owned(), backlog()), ("martians".to_owned(), martians())]);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_honest_are_refused_only_where_there_is_no_room() {
        let tcp = |reason, room| may_meet(reason, room, Carrier::Tcp);
        for reason in ["table_full", "quota"] {
            assert!(tcp(reason, Room::Scarce) && !tcp(reason, Room::Ample), "{reason}");
        }
        assert!(!tcp("collision", Room::Scarce) && may_meet("collision", Room::Ample, Carrier::Raw(1)));
        assert!(!tcp("out_of_state", Room::Scarce));
    }
}
