//! Which NAT a packet of no flow gets, as a table. The packets are real frames; the host's tables are plain collections, and
//! the stages follow each other as in the BPF programs.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]
#![expect(clippy::expect_used, reason = "tests fail by panicking")]

mod world;

use std::net::Ipv4Addr;

use netd_common::abi::{FamilyRows, Subnet};
use netd_common::flow::nat::Nat;
use netd_common::flow::{Tuple, Zone};
use netd_common::policy::{
    Decision, Packet, Refusal, Then, broadcast, direct, early_drop, forward, forwarded, inbound, outbound,
    source_port,
};
use netd_common::verdict::Reason;
use netd_common::wire::bytes::{Ipv4, Ipv6};
use netd_common::wire::ethernet::IP_AT;
use netd_common::wire::ip::{Ip, Part, protocol};
use netd_common::wire::transport;

use world::{World, frame, name_of_zone};

/// A line of a table: what it is about, where the packet comes from (an uplink or a container), the packet, and what becomes
/// of it. `:?` is any port but the packet's own.
type Case = [&'static str; 4];

/// The lines of tables.
fn cases(tables: &[&'static str]) -> Vec<Case> {
    let line = |line: &'static str| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        <[&str; 4]>::try_from(cells).expect("four cells")
    };
    tables.iter().flat_map(|table| table.trim().lines()).map(line).collect()
}

/// Packets from outside.
const INBOUND: &str = "
published port                  | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:8080              | 203.0.113.9:4000 > 172.17.0.2:80 to web
in a range                      | eth0 | udp 203.0.113.9:4000 > 192.0.2.1:3005              | 203.0.113.9:4000 > 172.17.0.3:5005 to db
IPv6                            | eth0 | tcp [2001:db8:9::9]:4000 > [2001:db8::1]:8080      | [2001:db8:9::9]:4000 > [fd00:17::2]:80 to web
on another address of the host  | eth0 | tcp 203.0.113.9:4000 > 192.0.2.7:8443              | 203.0.113.9:4000 > 172.17.0.3:443 to db
on an address that has left     | eth0 | tcp 203.0.113.9:4000 > 192.0.2.50:8444             | host
not on that address             | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:8443              | host
unicast to a broadcast address  | eth0 | udp 203.0.113.9:4000 > 192.0.2.255:3005            | host
not published                   | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:22                | host
not addressed to the host       | eth0 | tcp 203.0.113.9:4000 > 198.51.100.77:8080          | host
by the right interface          | eth1 | tcp 203.0.114.9:4000 > 192.0.2.1:5000              | 203.0.114.9:4000 > 172.17.0.2:50 to web, by eth1 only
strict reverse path             | eth1 | tcp 203.0.114.9:4000 > 192.0.2.1:8080              | 203.0.114.9:4000 > 172.17.0.2:80 to web, by eth1 only
strict, source beyond eth0      | eth1 | tcp 203.0.113.9:4000 > 192.0.2.1:8080              | host
loose, source beyond eth1       | eth0 | tcp 203.0.114.9:4000 > 192.0.2.1:8080              | 203.0.114.9:4000 > 172.17.0.2:80 to web
by another interface            | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:5000              | host
denied source                   | eth0 | tcp 203.0.113.66:4000 > 192.0.2.1:8080             | dropped: denied, counted
published for another protocol  | eth0 | tcp 203.0.113.77:4000 > 192.0.2.1:3005             | host
denied by the global list, UDP  | eth0 | udp 203.0.113.77:4000 > 192.0.2.1:3005             | dropped: denied, counted
own list before the global one  | eth0 | tcp 203.0.113.77:4000 > 192.0.2.1:8080             | 203.0.113.77:4000 > 172.17.0.2:80 to web
from an IPsec peer              | eth0 | tcp 203.0.119.9:4000 > 192.0.2.1:8080              | dropped: ipsec, counted
TTL 1                           | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:8080 ttl 1        | dropped: ttl_exceeded, counted
from the host's own address     | eth0 | tcp 192.0.2.7:4000 > 192.0.2.1:8080                | host
from a container's address      | eth0 | tcp 172.17.0.3:4000 > 192.0.2.1:8080               | dropped: forged_source
from loopback                   | eth0 | tcp 127.0.0.1:4000 > 192.0.2.1:8080                | dropped: martian
to loopback                     | eth0 | tcp 203.0.113.9:4000 > 127.0.0.1:8080              | dropped: martian
from a link-local address       | eth0 | tcp [fe80::9]:4000 > [2001:db8::1]:8080            | [fd00:17::1]:4000 > [fd00:17::2]:80 to web, by eth0 only
between link-local addresses    | eth0 | tcp [fe80::9]:40000 > [fe80::1]:8080               | [fd00:17::1]:30070 > [fd00:17::2]:80 to web, by eth0 only
from another scope              | eth0 | tcp [2001:db8:9::9]:4000 > [fe80::1]:8080          | host
another's link-local address    | eth0 | tcp [fe80::9]:4000 > [fe80::7]:8080                | host
from the host's link-local one  | eth0 | tcp [fe80::1]:4000 > [2001:db8::1]:8080            | host
link-local, NAT64               | eth0 | tcp [fe80::9]:4000 > [fe80::1]:6000                | [::ffff:10.6.0.1]:? > [::ffff:10.6.0.2]:60 to four, by eth0 only
link-local, not published       | eth0 | tcp [fe80::9]:4000 > [fe80::1]:22                  | host
from a mapped address           | eth0 | tcp [::ffff:203.0.113.9]:4000 > [2001:db8::1]:8080 | host
from a group                    | eth0 | udp 224.0.0.9:4000 > 192.0.2.1:3005                | host
later fragment before its first | eth0 | later 203.0.113.9 > 192.0.2.1                      | queued, and to the host
NAT64 client                    | eth0 | tcp [2001:db8:9::9]:4000 > [2001:db8::1]:6000      | [::ffff:10.6.0.1]:? > [::ffff:10.6.0.2]:60 to four
host port of a routed network   | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:2200              | host
the host's own connection       | eth0 | synack 203.0.113.9:443 > 192.0.2.1:8080            | host, noted
a SYN on it                     | eth0 | tcp 203.0.113.9:443 > 192.0.2.1:8080               | host, noted
the host's own, a denied peer   | eth0 | ack 203.0.113.66:443 > 192.0.2.1:8080              | host, noted
the host's own, to be forwarded | eth0 | ack 203.0.113.9:443 > 192.0.2.1:9000               | host, noted
a late packet to a closed one   | eth0 | ack 203.0.113.13:443 > 192.0.2.1:6000              | host
a new connection of its peer    | eth0 | tcp 203.0.113.13:443 > 192.0.2.1:6000              | 203.0.113.13:443 > 10.6.0.2:60 to four
the host's own, ended           | eth0 | ack 203.0.113.9:444 > 192.0.2.1:8080               | host
a new one in its place          | eth0 | tcp 203.0.113.9:444 > 192.0.2.1:8080               | 203.0.113.9:444 > 172.17.0.2:80 to web
to a connected UDP socket       | eth0 | udp 203.0.113.9:53 > 192.0.2.1:3005                | host, noted
from somebody else              | eth0 | udp 203.0.113.10:53 > 192.0.2.1:3005               | 203.0.113.10:53 > 172.17.0.3:5005 to db
an unconnected one has asked    | eth0 | udp 203.0.113.10:53 > 192.0.2.1:3006               | host, noted
it has not asked                | eth0 | udp 203.0.113.11:53 > 192.0.2.1:3006               | 203.0.113.11:53 > 172.17.0.3:5006 to db
denied, at a port of the kernel's | eth0 | tcp 203.0.113.77:4000 > 192.0.2.1:40000          | dropped: denied, counted
protocol without ports          | eth0 | gre 203.0.113.9 > 192.0.2.1                        | host, noted
";

/// Packets to containers' own addresses.
const DIRECT: &str = "
protected network                            | eth0 | tcp 203.0.113.9:4000 > 172.17.0.2:80     | dropped: direct_access
trusted interface, published                 | eth1 | tcp 203.0.114.9:4000 > 172.17.0.2:80     | 203.0.114.9:4000 > 172.17.0.2:80 to web, by eth1 only
trusted, strict, source beyond eth0          | eth1 | tcp 203.0.113.9:4000 > 172.17.0.2:80     | dropped: direct_access
trusted interface, not published             | eth1 | tcp 203.0.114.9:4000 > 172.17.0.2:22     | dropped: direct_access
trusted interface, denied                    | eth1 | tcp 203.0.114.66:4000 > 172.17.0.2:80    | dropped: denied, counted
trusted interface, draining                  | eth1 | tcp 203.0.114.9:4000 > 172.17.0.2:81     | dropped: direct_access
routed network, published                    | eth0 | tcp 203.0.113.9:4000 > 10.2.0.2:22       | 203.0.113.9:4000 > 10.2.0.2:22 to routed
routed network, not published                | eth0 | tcp 203.0.113.9:4000 > 10.2.0.2:23       | dropped: direct_access
routed network, ping                         | eth0 | ping 203.0.113.9 > 10.2.0.2              | 203.0.113.9:7 > 10.2.0.2:0 to routed
unprotected network                          | eth0 | tcp 203.0.113.9:4000 > 10.4.0.2:23       | 203.0.113.9:4000 > 10.4.0.2:23 to open
unprotected network, TTL 1                   | eth0 | tcp 203.0.113.9:4000 > 10.4.0.2:23 ttl 1 | dropped: ttl_exceeded
unprotected network, from the host's address | eth0 | tcp 192.0.2.7:4000 > 10.4.0.2:23         | dropped: direct_access
from an IPsec peer                           | eth0 | tcp 203.0.119.9:4000 > 10.4.0.2:23       | dropped: ipsec
nobody there                                 | eth0 | tcp 203.0.113.9:4000 > 10.4.0.9:23       | dropped: direct_access
from another network                         | web  | tcp 172.17.0.2:4000 > 10.4.0.2:23        | 172.17.0.2:4000 > 10.4.0.2:23 to open
from another network, protected              | open | tcp 10.4.0.2:4000 > 172.17.0.2:80        | dropped: isolated
later fragment                               | eth0 | later 203.0.113.9 > 10.4.0.2             | queued
";

/// Packets from containers.
const OUTBOUND: &str = "
masquerade                           | web    | tcp 172.17.0.2:4000 > 203.0.113.9:443       | 192.0.2.1:4000 > 203.0.113.9:443 to outside
masquerade, IPv6                     | web    | udp [fd00:17::2]:4000 > [2001:db8:9::9]:53  | [2001:db8::1]:4000 > [2001:db8:9::9]:53 to outside
masquerade, port of another one of its own | db | udp 172.17.0.3:3004 > 203.0.113.9:443      | 192.0.2.1:? > 203.0.113.9:443 to outside
masquerade, published for another     | web    | udp 172.17.0.2:3004 > 203.0.113.9:443       | 192.0.2.1:? > 203.0.113.9:443 to outside
masquerade, port published           | db     | tcp 172.17.0.3:8080 > 203.0.113.9:443       | 192.0.2.1:? > 203.0.113.9:443 to outside
masquerade, privileged port          | web    | tcp 172.17.0.2:800 > 203.0.113.9:2049       | 192.0.2.1:800 > 203.0.113.9:2049 to outside
masquerade, taken privileged port    | web    | udp 172.17.0.2:53 > 203.0.113.9:2049        | 192.0.2.1:256 > 203.0.113.9:2049 to outside
masquerade, port of a socket         | web    | udp 172.17.0.2:53 > 203.0.113.9:443         | 192.0.2.1:? > 203.0.113.9:443 to outside
masquerade, a port of the kernel's   | web    | tcp 172.17.0.2:40000 > 203.0.113.9:443      | 192.0.2.1:30070 > 203.0.113.9:443 to outside
masquerade, the first of them        | web    | udp 172.17.0.2:32768 > 203.0.113.9:443      | 192.0.2.1:65534 > 203.0.113.9:443 to outside
masquerade, ping                     | web    | ping 172.17.0.2 > 203.0.113.9               | 192.0.2.1:63488 > 203.0.113.9:0 to outside
masquerade, protocol without ports   | web    | gre 172.17.0.2 > 203.0.113.9                | 192.0.2.1:0 > 203.0.113.9:0 to outside
the host has it with this peer       | web    | gre 172.17.0.2 > 203.0.113.47               | dropped: collision
masquerade, by the other uplink      | web    | tcp 172.17.0.2:4000 > 203.0.114.9:443       | 198.51.100.1:4000 > 203.0.114.9:443 to outside
SNAT address of the network          | snat   | tcp 10.8.0.2:4000 > 203.0.113.9:443         | 192.0.2.7:4000 > 203.0.113.9:443 to outside
to a published address that has left | web    | tcp 172.17.0.2:4000 > 192.0.2.50:8444       | 192.0.2.1:4000 > 192.0.2.50:8444 to outside
routed network is masqueraded        | routed | tcp 10.2.0.2:4000 > 203.0.113.9:443         | 192.0.2.1:4000 > 203.0.113.9:443 to outside
no masquerade                        | plain  | tcp 10.7.0.2:4000 > 203.0.113.9:443         | 10.7.0.2:4000 > 203.0.113.9:443 to outside
no masquerade, a port of the kernel's | plain | tcp 10.7.0.2:40000 > 203.0.113.9:443        | 10.7.0.2:40000 > 203.0.113.9:443 to outside
no masquerade, ping                  | plain  | ping 10.7.0.2 > 203.0.113.9                 | 10.7.0.2:7 > 203.0.113.9:0 to outside
TTL 1                                | web    | tcp 172.17.0.2:4000 > 203.0.113.9:443 ttl 1 | dropped: ttl_exceeded
reset of no connection               | web    | rst 172.17.0.2:4000 > 203.0.113.9:443       | dropped: out_of_state
SYN-ACK of no connection             | web    | synack 172.17.0.2:4000 > 203.0.113.9:443    | dropped: out_of_state
answer of a lost connection          | web    | synack 172.17.0.2:80 > 203.0.113.9:4000     | rebuilt: 203.0.113.9:4000 > 172.17.0.2:80, was to 192.0.2.1:8080
answer to a peer of the host's own   | web    | ack 172.17.0.2:80 > 203.0.113.9:443         | 192.0.2.1:80 > 203.0.113.9:443 to outside
answer on one address                | db     | ack 172.17.0.3:443 > 203.0.113.9:4000       | rebuilt: 203.0.113.9:4000 > 172.17.0.3:443, was to 192.0.2.7:8443
one of two host ports                | web    | ack 172.17.0.2:70 > 203.0.113.9:4000        | dropped: out_of_state
one of two host ports, the client    | eth0   | ack 203.0.113.9:4000 > 192.0.2.1:7000       | 203.0.113.9:4000 > 172.17.0.2:70 to web
one of two host ports, new           | web    | tcp 172.17.0.2:70 > 203.0.113.9:443         | 192.0.2.1:70 > 203.0.113.9:443 to outside
datagram from a port of the host's   | web    | udp 172.17.0.2:82 > 203.0.113.9:4000        | 192.0.2.1:82 > 203.0.113.9:4000 to outside
answer from a port of the host's     | web    | ack 172.17.0.2:82 > 203.0.113.9:4000        | rebuilt: 203.0.113.9:4000 > 172.17.0.2:82, was to 192.0.2.1:40000
one of two host ports, a datagram    | web    | udp 172.17.0.2:70 > 203.0.113.9:4000        | rebuilt: 203.0.113.9:4000 > 172.17.0.2:70, was to 192.0.2.1:7001
one port of two addresses, first     | web    | ack 172.17.0.2:443 > 203.0.113.9:4000       | rebuilt: 203.0.113.9:4000 > 172.17.0.2:443, was to 192.0.2.1:4430
one port of two addresses, second    | db     | ack 172.17.0.3:444 > 203.0.113.9:4000       | rebuilt: 203.0.113.9:4000 > 172.17.0.3:444, was to 192.0.2.7:4430
new connection from a published port | web    | tcp 172.17.0.2:80 > 203.0.113.9:443         | 192.0.2.1:80 > 203.0.113.9:443 to outside
answer of a draining publication     | web    | ack 172.17.0.2:81 > 203.0.113.9:4000        | dropped: out_of_state
from an allowed address              | vpn    | tcp 10.244.1.9:4000 > 203.0.113.9:443       | 192.0.2.1:4000 > 203.0.113.9:443 to outside
from an address that is not allowed  | vpn    | tcp 10.244.2.9:4000 > 203.0.113.9:443       | dropped: spoofed
from a neighbour's address, allowed  | vpn    | tcp 172.17.0.3:4000 > 203.0.113.9:443       | dropped: spoofed
from the gateway's address, allowed  | vpn    | tcp 10.11.0.1:4000 > 203.0.113.9:443        | dropped: spoofed
by a neighbour                       | web    | tcp 172.17.0.2:4000 > 203.0.113.9:443 by db | host
by a container of another network    | vpn    | tcp 10.244.1.9:4000 > 203.0.113.9:443 by web | 192.0.2.1:4000 > 203.0.113.9:443 to outside
by a neighbour without ICC           | lone   | tcp 10.5.0.2:4000 > 203.0.113.9:443 by alone | dropped: isolated
forged source                        | web    | tcp 172.17.0.3:4000 > 203.0.113.9:443       | dropped: spoofed
to a neighbour                       | web    | tcp 172.17.0.2:4000 > 172.17.0.3:443        | host
to a neighbour, by the gateway       | web    | tcp 172.17.0.2:4000 > 172.17.0.3:443 via router | host, TTL 1
to a neighbour without ICC           | lone   | tcp 10.5.0.2:4000 > 10.5.0.3:443            | dropped: isolated
to a group of the link               | web    | udp 172.17.0.2:4000 > 224.0.0.251:5353      | host
to a group beyond the link           | web    | udp 172.17.0.2:4000 > 239.1.2.3:5353        | host, TTL 1
internal network, group              | vault  | udp 10.3.0.2:4000 > 239.1.2.3:5353          | host, TTL 1
by a rule about the port             | web    | udp 172.17.0.2:4000 > 203.0.117.9:53        | 198.51.100.1:4000 > 203.0.117.9:53 to outside
by the rule for other ports          | web    | udp 172.17.0.2:4000 > 203.0.117.9:54        | 192.0.2.1:4000 > 203.0.117.9:54 to outside
to loopback                          | web    | tcp 172.17.0.2:4000 > 127.0.0.1:80          | dropped: martian
internal network, outside            | vault  | tcp 10.3.0.2:4000 > 203.0.113.9:443         | dropped: no_way_out
internal network, gateway            | vault  | tcp 10.3.0.2:4000 > 10.3.0.1:8080           | host, TTL 1
internal network, class E            | vault  | udp 10.3.0.2:4000 > 240.0.0.1:443           | dropped: no_way_out
class E, which has a route           | web    | udp 172.17.0.2:4000 > 241.0.0.1:443         | 192.0.2.1:4000 > 241.0.0.1:443 to outside
no route                             | web    | tcp 172.17.0.2:4000 > 240.0.0.1:443         | host, TTL 1
forbidden route                      | web    | tcp 172.17.0.2:4000 > 203.0.115.9:443       | dropped: prohibited
to an IPsec peer                     | web    | tcp 172.17.0.2:4000 > 203.0.119.9:443       | dropped: ipsec
uplink without an address            | web    | tcp 172.17.0.2:4000 > 203.0.116.9:443       | dropped: no_way_out
by a trusted tunnel                  | web    | tcp 172.17.0.2:4000 > 203.0.118.9:443       | host
by another network's                 | open   | tcp 10.4.0.2:4000 > 203.0.118.9:443         | dropped: no_way_out
later fragment                       | web    | later 172.17.0.2 > 203.0.113.9              | queued
";

/// Packets from containers to the host's addresses.
const HAIRPIN: &str = "
to itself                  | web  | tcp 172.17.0.2:4000 > 192.0.2.1:8080       | 172.17.0.1:4000 > 172.17.0.2:80 to web
to itself, by the gateway  | web  | tcp 172.17.0.2:4000 > 172.17.0.1:8080      | 172.17.0.1:4000 > 172.17.0.2:80 to web
to itself, kernel's port   | web  | tcp 172.17.0.2:40000 > 192.0.2.1:8080      | 172.17.0.1:30070 > 172.17.0.2:80 to web
the host's own connection  | db   | ack 172.17.0.3:80 > 192.0.2.1:8080         | host, noted
to another container       | db   | tcp 172.17.0.3:4000 > 192.0.2.1:8080       | 172.17.0.3:4000 > 172.17.0.2:80 to web
from another network       | open | tcp 10.4.0.2:4000 > 192.0.2.1:8080         | 10.4.0.2:4000 > 172.17.0.2:80 to web
from an isolated container | lone | tcp 10.5.0.2:4000 > 192.0.2.1:8080         | 10.5.0.2:4000 > 172.17.0.2:80 to web
not published              | web  | tcp 172.17.0.2:4000 > 192.0.2.1:22         | host, TTL 1
gateway, not published     | web  | tcp 172.17.0.2:4000 > 172.17.0.1:22        | host, unless NAT46
by another network's gateway | open | tcp 10.4.0.2:4000 > 172.17.0.1:8080       | 10.4.0.2:4000 > 172.17.0.2:80 to web
its host's own             | open | tcp 10.4.0.2:4000 > 172.17.0.1:22          | host, TTL 1
to another network         | open | tcp 10.4.0.2:4000 > 172.17.0.99:22         | dropped: isolated
from an internal network   | vault | tcp 10.3.0.2:4000 > 172.17.0.1:8080      | dropped: no_way_out
denied container           | bad  | tcp 10.9.0.2:4000 > 192.0.2.1:8080         | dropped: denied, counted
TTL 1                      | db   | tcp 172.17.0.3:4000 > 192.0.2.1:8080 ttl 1 | dropped: ttl_exceeded
";

/// Packets to targets that are not containers.
const FORWARD: &str = "
remote target                  | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:9000         | 192.0.2.1:4000 > 203.0.113.200:90 to outside
remote target, source kept     | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:9001         | 203.0.113.9:4000 > 203.0.113.201:90 to outside
remote target, port published  | eth0 | tcp 203.0.113.9:8080 > 192.0.2.1:9000         | 192.0.2.1:? > 203.0.113.200:90 to outside
from a container               | web  | tcp 172.17.0.2:4000 > 192.0.2.1:9000          | 192.0.2.1:4000 > 203.0.113.200:90 to outside
from a container, source kept  | web  | tcp 172.17.0.2:4000 > 192.0.2.1:9001          | 192.0.2.1:4000 > 203.0.113.201:90 to outside
no route to the target         | eth0 | tcp 203.0.113.9:4000 > 192.0.2.1:9002         | dropped: prohibited, counted
denied source                  | eth0 | tcp 203.0.113.77:4000 > 192.0.2.1:9000        | dropped: denied, counted
IPv6, which the target has not | eth0 | tcp [2001:db8:9::9]:4000 > [2001:db8::1]:9000 | host
";

#[test]
fn each_packet_gets_its_nat() {
    let world = World::new();
    let mut wrong = Vec::new();
    for [what, from, packet, expected] in cases(&[INBOUND, DIRECT, OUTBOUND, HAIRPIN, FORWARD]) {
        let said = walk(&world, from, packet);
        if !matches(&said, expected, packet) {
            wrong.push(format!("{what}: {packet}, by {from}\n  expected {expected}\n  but got  {said}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the host's stack forwards into a network.
#[test]
fn an_interface_without_a_program_lets_in_only_where_it_is_trusted() {
    let world = World::new();
    let [web, open] = [[172, 17, 0, 2], [10, 4, 0, 2]].map(|dst| Ipv4::from(std::net::Ipv4Addr::from(dst)));
    for (input, dst, expected) in [
        (0, web, Ok(())),
        (world.ifindex("eth0"), web, Ok(())),
        (world::TUNNEL, web, Ok(())),
        (world::TUNNEL, open, Err(Reason::Unguarded)),
        (world::STRANGER, web, Err(Reason::Unguarded)),
    ] {
        assert_eq!(forwarded::decide(&world, input, dst), expected, "from {input} to {dst:?}");
    }
}

#[test]
fn a_broadcast_reaches_a_published_port_as_if_it_were_sent_to_the_host() {
    let world = World::new();
    for (from, text, expected) in [
        ("eth0", "udp 192.0.2.9:4000 > 192.0.2.255:3005", Some("192.0.2.1")),
        ("eth0", "udp 192.0.2.9:4000 > 255.255.255.255:3005", Some("192.0.2.1")),
        ("eth1", "udp 192.0.2.9:4000 > 255.255.255.255:3005", Some("198.51.100.1")),
        ("eth0", "udp 192.0.2.9:4000 > 192.0.2.255:3999", None),
        ("eth0", "udp 192.0.2.9:4000 > 192.0.2.1:3005", None),
        ("eth0", "tcp 192.0.2.9:4000 > 192.0.2.255:8080", None),
        ("eth0", "udp 172.17.0.2:4000 > 192.0.2.255:3005", None),
        ("eth0", "udp 0.0.0.0:4000 > 255.255.255.255:3005", None),
    ] {
        let bytes = frame(&world, from, text);
        let ip = read::<Ipv4>(&bytes);
        let receiver = broadcast::receiver(&world, &packet(&world, from, &bytes, &ip));
        let expected = expected.map(|address| Ipv4::from(address.parse::<Ipv4Addr>().unwrap()));
        assert_eq!(receiver, expected, "{from} {text}");
    }
}

#[test]
fn an_address_whose_ports_are_all_published_can_be_a_source() {
    let mut world = World::new();
    world.port(protocol::TCP, Some("192.0.2.7"), 1, u16::MAX, "snat", 1);
    let said = walk(&world, "snat", "tcp 10.8.0.2:4000 > 203.0.113.9:443");
    assert_eq!(said, "192.0.2.7:4000 > 203.0.113.9:443 to outside", "the container of the publication");
    let other = world.container("other", 12, "10.12.0.2", 0);
    let [own, mask, gateway, snat] = ["10.12.0.2", "255.255.0.0", "10.12.0.1", "192.0.2.7"]
        .map(|address| Ipv4::from(address.parse::<Ipv4Addr>().unwrap()));
    other.subnet4 = Subnet::new(own, mask, gateway, snat);
    let said = walk(&world, "other", "tcp 10.12.0.2:4000 > 203.0.113.9:443");
    assert!(matches(&said, "192.0.2.7:? > 203.0.113.9:443 to outside", "tcp 10.12.0.2:4000"), "{said}");
}

#[test]
fn without_lists_everybody_may_connect() {
    let mut world = World::new();
    world.forget_lists();
    let said = walk(&world, "eth0", "udp 203.0.113.77:4000 > 192.0.2.1:3005");
    assert_eq!(said, "203.0.113.77:4000 > 172.17.0.3:5005 to db");
}

/// XDP drops a packet from outside exactly if the stages would drop it for a reason that holds for the next one as well.
#[test]
fn xdp_drops_what_the_stages_drop() {
    let world = World::new();
    let lasting = ["martian", "forged_source", "direct_access", "denied"];
    let (mut dropped, mut passed) = (0, 0);
    for [what, from, packet, expected] in cases(&[INBOUND, DIRECT, FORWARD]) {
        if !from.starts_with("eth") {
            continue;
        }
        let refusal = with_frame(&world, from, packet, &EarlyDrop);
        let reason = expected.strip_prefix("dropped: ").map(|reason| reason.trim_end_matches(", counted"));
        // Whose a packet to a port of the kernel's is depends on its source port.
        let is_cached = |reason: &&str| lasting.contains(reason) && !packet.ends_with(":40000");
        let wanted = reason.filter(is_cached);
        assert_eq!(refusal.map(|refusal| refusal.reason.name()), wanted, "{what}");
        let counted = refusal.is_some_and(|refusal| !refusal.publication.is_none());
        assert_eq!(counted, wanted.is_some() && expected.ends_with("counted"), "{what}");
        *(if wanted.is_some() { &mut dropped } else { &mut passed }) += 1;
    }
    assert!(dropped > 10 && passed > 10);
}

/// Compares; `:?` stands for any port but the packet's own.
fn matches(said: &str, expected: &str, packet: &str) -> bool {
    let Some((before, after)) = expected.split_once(":?") else { return said == expected };
    let Some(rest) = said.strip_prefix(before).and_then(|rest| rest.strip_prefix(':')) else { return false };
    let port = rest.split(' ').next().unwrap_or_default();
    rest.strip_prefix(port) == Some(after) && !packet.contains(&format!(":{port} > "))
}

/// Something to be done with a frame of either family.
trait Run {
    type Output;
    fn run<A: FamilyRows>(&self, world: &World, from: &str, bytes: &[u8], ip: &Ip<A>) -> Self::Output;
}

/// Makes the frame of a packet, and runs something with it.
fn with_frame<R: Run>(world: &World, from: &str, packet: &str, run: &R) -> R::Output {
    let bytes = frame(world, from, packet);
    match bytes[14] >> 4 {
        4 => run.run(world, from, &bytes, &read::<Ipv4>(&bytes)),
        _ => run.run(world, from, &bytes, &read::<Ipv6>(&bytes)),
    }
}

fn read<A: FamilyRows>(bytes: &[u8]) -> Ip<A> {
    A::header(bytes, IP_AT).unwrap()
}

/// What becomes of a packet, in words.
fn walk(world: &World, from: &str, packet: &str) -> String {
    with_frame(world, from, packet, &Stages)
}

fn packet<'a, A: FamilyRows>(world: &World, from: &str, bytes: &[u8], ip: &'a Ip<A>) -> Packet<'a, A> {
    let transport = match ip.part {
        // No table knows its first fragment.
        Part::Later(_) => Err(Reason::Fragment),
        _ => transport::read(bytes, ip),
    };
    let ifindex = world.ifindex(from);
    let zone = if from.starts_with("eth") { Zone::OUTSIDE } else { Zone::container(ifindex) };
    Packet::new(ip, transport, zone, ifindex)
}

/// XDP.
struct EarlyDrop;

impl Run for EarlyDrop {
    type Output = Option<Refusal>;
    fn run<A: FamilyRows>(&self, world: &World, from: &str, bytes: &[u8], ip: &Ip<A>) -> Option<Refusal> {
        // As in the program: what has no ports or is a fragment is TC's, and so is what is too old.
        if ip.ttl <= 1 || ip.part != Part::Whole || !matches!(ip.protocol, 6 | 17) {
            return None;
        }
        early_drop::decide(world, &packet(world, from, bytes, ip), &mut Nat::default())
    }
}

/// TC.
struct Stages;

impl Run for Stages {
    type Output = String;
    fn run<A: FamilyRows>(&self, world: &World, from: &str, bytes: &[u8], ip: &Ip<A>) -> String {
        let packet = packet(world, from, bytes, ip);
        let mut nat = Nat::default();
        let mut decision = if packet.zone == Zone::OUTSIDE {
            inbound::decide(world, &packet, &mut nat)
        } else {
            outbound::decide(world, bytes, &packet, world.of(from)).map_err(Refusal::from)
        };
        loop {
            decision = match decision {
                Ok(Decision::Direct) => direct::decide(world, &packet, &mut nat),
                Ok(Decision::Forward) => forward::decide(world, &packet, &mut nat),
                Ok(Decision::Hairpin) => outbound::hairpin(world, &packet, &mut nat),
                Ok(Decision::Leave(oif)) => outbound::leave(world, &packet, oif, &mut nat),
                Ok(Decision::Pass) => return "host".into(),
                Ok(Decision::Local) => return "host, TTL 1".into(),
                Ok(Decision::Note) => return "host, noted".into(),
                Ok(Decision::MayBeNat46) => return "host, unless NAT46".into(),
                Ok(Decision::Queue(Then::Pass)) => {
                    return "queued, and to the host".into();
                }
                Ok(Decision::Queue(Then::End)) => return "queued".into(),
                Ok(Decision::Open) => return opened(world, &nat),
                Err(Refusal { reason, publication }) => {
                    let counted = if publication.is_none() { "" } else { ", counted" };
                    return format!("dropped: {}{counted}", reason.name());
                }
            };
        }
    }
}

/// The NAT of a connection that is opened, in words.
fn opened<A: FamilyRows>(world: &World, nat: &Nat<A>) -> String {
    let end = |address: A, port: u16| std::net::SocketAddr::new(address.to_ip(), port).to_string();
    let port = (0..source_port::TRIES)
        .map_while(|tries| source_port::candidate(world, nat, tries, || 0x8000_0000 + tries).ok())
        .zip(0..)
        .find(|(port, tries)| {
            let (number, tuple) = (nat.original.protocol(), Tuple { src_port: *port, ..nat.translated });
            let sender = (nat.back, nat.original.src_port);
            !nat.translates_source()
                || nat.is_rebuilt
                || source_port::is_free_on_gateway::<A, _>(world, sender, number, &tuple, *tries)
        })
        .map(|(port, _tries)| port);
    let Some(port) = port else { return format!("dropped: {}", Reason::Collision.name()) };
    let to = nat.translated;
    let translated = format!("{} > {}", end(to.src, port.get()), end(to.dst, to.dst_port.get()));
    if nat.is_rebuilt {
        let original = nat.original.tuple();
        return format!("rebuilt: {translated}, was to {}", end(original.dst, original.dst_port.get()));
    }
    let by = match nat.input {
        0 => "",
        input if input == world.ifindex("eth0") => ", by eth0 only",
        input if input == world.ifindex("eth1") => ", by eth1 only",
        input => panic!("bound to {input}"),
    };
    format!("{translated} to {}{by}", name_of_zone(world, nat.to.zone))
}
