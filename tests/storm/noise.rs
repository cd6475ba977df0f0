//! What the hostile send, all of it drawn from the burst's own seed.

use std::net::{IpAddr, Ipv4Addr};

use fastrand::Rng;
use netd_tests::stimulus::{Body, Stimulus, Tuple};

use crate::actors::Kind;
use crate::ground::{
    CLIENT, GATEWAY, GROUPS, Group, HOST, HOST_OUTSIDE, OUTSIDE, UNREACHABLE, is_hidden, service,
};
use crate::label::{BURST, Label, Meant, Party};
use crate::plan::{Burst, Carrier, Noise, Who};
use crate::sockets;
use crate::world::World;

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Where nobody listens.
const DISCARD: u16 = 9;

/// A packet that is to be sent, and whether it is a labelled datagram.
struct Shot {
    packet: Stimulus,
    tuple: Tuple,
    counts: bool,
}

impl World {
    /// Sends a burst, if its sender is there.
    pub(crate) fn burst(&mut self, kind: Kind, burst: &Burst) {
        let Some(sender) = self.party(burst.from) else { return };
        let flow = BURST | u32::try_from(self.judge.step).expect("few steps");
        self.judge.begins(flow, kind);
        let mut rng = Rng::with_seed(burst.seed);
        for seq in 0..u32::from(burst.count) {
            let label = Label { from: sender, meant: Meant::Nobody, flow, seq, asks: false };
            let Some(Shot { packet, tuple, counts }) = self.shot(&mut rng, burst, label) else { continue };
            let socket = match burst.from {
                Who::Place(place) => &self.places[usize::from(place)].as_ref().expect("it is there").sender,
                Who::Client => &self.senders[0],
                Who::Vault => &self.senders[2],
                _ => &self.senders[1],
            };
            let bytes = packet.packets(&tuple).remove(0);
            // The sender's own kernel refuses some, and has no room for others.
            let is_sent = sockets::send_raw(socket, tuple.dst, &bytes).is_ok();
            self.judge.sent += u64::from(is_sent && counts);
        }
    }

    /// The next packet of a burst.
    fn shot(&self, rng: &mut Rng, burst: &Burst, label: Label) -> Option<Shot> {
        let own: IpAddr = match burst.from {
            Who::Place(place) => self.places[usize::from(place)].as_ref()?.addresses[0],
            Who::Client => CLIENT.of(false),
            Who::Vault => Ipv4Addr::new(10, 78, 0, 9).into(),
            _ => OUTSIDE.of(false),
        };
        let is_inside = is_hidden(own);
        let sport = rng.u16(1024..);
        let group = rng.usize(0..GROUPS.len());
        let tcp = |flags, seq, ack| Stimulus::new(Body::Tcp { flags, seq, ack, options: Vec::new() });
        let tuple = |src, dst, dport| Tuple { src, dst, sport, dport };
        Some(match burst.what {
            Noise::Syn => {
                let seq = rng.u32(..);
                let to = if is_inside {
                    tuple(own, OUTSIDE.of(false), rng.u16(1..6000))
                } else {
                    tuple(stranger(rng), host(burst.from), self.open_group(rng, "tcp")?.1)
                };
                Shot { packet: tcp(SYN, seq, 0), tuple: to, counts: false }
            }
            Noise::Udp => {
                let (meant, to, asks) = if is_inside {
                    // Half of it is answered: each answer must find its way back.
                    let asks = rng.bool();
                    let port = if asks { service::OUTSIDE[0] } else { DISCARD };
                    (Meant::For(Party::Outside), tuple(own, OUTSIDE.of(false), port), asks)
                } else {
                    let (group, port) = self.open_group(rng, "udp")?;
                    (Meant::Holder(group), tuple(stranger(rng), host(burst.from), port), false)
                };
                datagram(Label { meant, asks, ..label }, to)
            }
            Noise::Spoofed => {
                let src = if is_inside {
                    let others = self.places.iter().flatten().map(|container| container.addresses[0]);
                    let mut all: Vec<IpAddr> = others.filter(|other| *other != own).collect();
                    all.extend([HOST.of(false), OUTSIDE.of(false), GATEWAY.of(false), stranger(rng)]);
                    all[rng.usize(0..all.len())]
                } else {
                    let last = rng.u8(1..9);
                    let inside = Ipv4Addr::new(10, 77, 0, last).into();
                    [inside, host(burst.from), Ipv4Addr::new(127, 0, 0, last).into()][rng.usize(0..3)]
                };
                let to = if is_inside {
                    tuple(src, OUTSIDE.of(false), DISCARD)
                } else {
                    tuple(src, host(burst.from), GROUPS[group].host_port)
                };
                datagram(label, to)
            }
            Noise::Direct => {
                let dst = Ipv4Addr::new(10, 77, 0, rng.u8(2..9)).into();
                datagram(label, tuple(own, dst, [53, 54, 80][rng.usize(0..3)]))
            }
            Noise::Tunnels => {
                let protocol = [4, 47, 50, 51, 89, 112][rng.usize(0..6)];
                let label = Label { meant: Meant::Anybody, ..label };
                let packet = Stimulus { payload: label.bytes(), ..Stimulus::new(Body::Other(protocol)) };
                Shot { packet, tuple: tuple(own, OUTSIDE.of(false), 0), counts: false }
            }
            Noise::Reserved => datagram(Label { meant: Meant::Anybody, ..label }, to_nobody(rng, own, sport)),
            Noise::Escape => {
                let to = to_nobody(rng, own, sport);
                let all = [OUTSIDE.of(false), CLIENT.of(false), to.dst];
                let to = Tuple { dst: all[rng.usize(0..3)], ..to };
                if rng.bool() {
                    datagram(label, to)
                } else {
                    let protocol = [4, 47, 50, 89][rng.usize(0..4)];
                    let packet = Stimulus { payload: label.bytes(), ..Stimulus::new(Body::Other(protocol)) };
                    Shot { packet, tuple: to, counts: false }
                }
            }
            Noise::Blind(flow) => {
                let flow = self.flows.get(&flow)?;
                let is_ours = flow.opening.carrier == Carrier::Tcp && flow.asker == Party::Client;
                let (true, IpAddr::V4(_)) = (is_ours, flow.to.ip()) else { return None };
                let flags = [ACK, RST, RST | ACK, FIN | ACK, FIN][rng.usize(0..5)];
                let sport = flow.source_port();
                let to = Tuple { src: CLIENT.of(false), dst: flow.to.ip(), sport, dport: flow.to.port() };
                Shot { packet: tcp(flags, rng.u32(..), rng.u32(..)), tuple: to, counts: false }
            }
        })
    }

    /// A group of a protocol that is published now, and one of its ports.
    fn open_group(&self, rng: &mut Rng, proto: &str) -> Option<(u8, u16)> {
        let open: Vec<(u8, &Group)> = (0..)
            .zip(&GROUPS)
            .filter(|(number, group)| {
                group.proto == proto && self.admin.holders[usize::from(*number)].is_some()
            })
            .collect();
        let (number, group) = *open.get(rng.usize(0..GROUPS.len()) % open.len().max(1))?;
        Some((number, group.host_port + rng.u16(0..group.count)))
    }
}

/// The host's address on the sender's wire.
fn host(sender: Who) -> IpAddr {
    if sender == Who::Client { HOST } else { HOST_OUTSIDE }.of(false)
}

/// An address beyond the router outside.
fn stranger(rng: &mut Rng) -> IpAddr {
    Ipv4Addr::new(100, rng.u8(64..128), rng.u8(..), rng.u8(1..255)).into()
}

/// To where nobody is: an address that is reserved, or one that only a rule leads to.
fn to_nobody(rng: &mut Rng, src: IpAddr, sport: u16) -> Tuple {
    let [a, b, c] = UNREACHABLE;
    let (dst, dport) = if rng.bool() {
        (Ipv4Addr::new(rng.u8(240..255), rng.u8(..), rng.u8(..), rng.u8(1..255)), DISCARD)
    } else {
        (Ipv4Addr::new(a, b, c, rng.u8(1..255)), service::ROUTED)
    };
    Tuple { src, dst: dst.into(), sport, dport }
}

fn datagram(label: Label, tuple: Tuple) -> Shot {
    let packet = Stimulus { payload: label.bytes(), ..Stimulus::new(Body::Udp) };
    Shot { packet, tuple, counts: true }
}
