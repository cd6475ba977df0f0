//! What happens next: one number decides all of it. What is decided depends neither on what came of earlier steps nor on
//! who takes part, so a seed means the same sequence whatever is left out.

use fastrand::Rng;

use crate::actors::{ACTORS, Kind};
use crate::ground::{GROUPS, PLACES, SERVED, service};

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// Whose doing it is.
    pub(crate) kind: Kind,
    /// What.
    pub(crate) deed: Deed,
}

/// What somebody does.
#[derive(Clone, Debug)]
pub(crate) enum Deed {
    /// Begins a flow.
    Begin(Opening),
    /// Says something in it.
    Say(u32),
    /// Ends it, by a reset or orderly.
    End(u32, bool),
    /// Sends many packets at once.
    Burst(Burst),
    /// Tries to take a published port of this group.
    Bind(u8, u16),
    /// The administrator adds the container of this place.
    Add(u8),
    /// … removes it.
    Remove(u8),
    /// … publishes a group for the container of a place.
    Publish(u8, u8),
    /// … gives a group to another container, and cuts its connections or not.
    Replace(u8, u8, bool),
    /// … takes a group back.
    Unpublish(u8),
    /// … makes a network that nobody uses, and removes it: netd looks at the host again.
    Sync,
    /// … adds the host's second address, or removes it.
    Address,
    /// … adds a route that nobody needs, or removes it.
    Route,
    /// … routes by destination port, or no longer.
    Rule,
}

/// Who begins a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// A process of the host.
    Host,
    /// The neighbour.
    Client,
    /// The machine outside.
    Outside,
    /// The container of a place, if there is one.
    Place(u8),
    /// The container of the internal network.
    Vault,
}

/// What a flow is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Carrier {
    /// TCP.
    Tcp,
    /// UDP from a socket that is not connected.
    Udp,
    /// UDP from one that is.
    ConnectedUdp,
    /// Another protocol, by number: an echo (1) or a tunnel's.
    Raw(u8),
}

/// With whom a flow is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// The holder of a group; the number of the port in it; by the host's second address, or loopback, or the gateway.
    Published(u8, u16, bool),
    /// A server of the host, the neighbour or the machine outside, by port.
    Service(Who, u16),
    /// A neighbour's port 80 or 53.
    Neighbour(u8),
}

/// The beginning of a flow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    /// Its number.
    pub(crate) flow: u32,
    /// Who begins it.
    pub(crate) asker: Who,
    /// What it is made of.
    pub(crate) carrier: Carrier,
    /// With whom it is.
    pub(crate) target: Target,
    /// Its source port; none: the kernel chooses.
    pub(crate) sport: Option<u16>,
    /// Whether it is IPv6.
    pub(crate) v6: bool,
}

/// Many packets at once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    /// Who sends.
    pub(crate) from: Who,
    /// What.
    pub(crate) what: Noise,
    /// How many.
    pub(crate) count: u16,
    /// What their contents are drawn from.
    pub(crate) seed: u64,
}

/// What a burst consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noise {
    /// First packets of TCP connections that are never answered.
    Syn,
    /// Datagrams.
    Udp,
    /// Sources that are not the sender's.
    Spoofed,
    /// Protocols without ports, to the host's tunnel peer.
    Tunnels,
    /// To addresses that no one has.
    Reserved,
    /// To anybody outside, from where there is no way out.
    Escape,
    /// To containers' own addresses.
    Direct,
    /// ACK, RST and FIN with wrong numbers, in the name of this flow's client.
    Blind(u32),
}

/// How many flows are open at a time.
const OPEN: usize = 48;

/// The generator.
#[derive(Debug)]
pub(crate) struct Plan {
    rng: Rng,
    /// Flows that were begun and not ended, and whose they are.
    open: Vec<(u32, Kind)>,
    next: u32,
}

impl Plan {
    /// The sequence of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { rng: Rng::with_seed(seed), open: Vec::new(), next: 100 }
    }

    /// The next step.
    pub(crate) fn next(&mut self) -> Step {
        // Most of the time open flows go on.
        let roll = self.rng.u8(0..100);
        if !self.open.is_empty() && (roll < 60 || self.open.len() >= OPEN) {
            let at = self.rng.usize(0..self.open.len());
            let (flow, kind) = self.open[at];
            let deed = if roll < 52 {
                Deed::Say(flow)
            } else {
                self.open.swap_remove(at);
                Deed::End(flow, self.rng.bool())
            };
            return Step { kind, deed };
        }
        let all: u32 = ACTORS.iter().map(|actor| actor.weight).sum();
        let mut at = self.rng.u32(0..all);
        let actor = ACTORS
            .iter()
            .find(|actor| {
                let is_it = at < actor.weight;
                at = at.saturating_sub(actor.weight);
                is_it
            })
            .expect("a weight");
        let deed = self.deed(actor.kind);
        Step { kind: actor.kind, deed }
    }

    fn place(&mut self) -> Who {
        Who::Place(self.rng.u8(0..PLACES))
    }

    fn group(&mut self, proto: &str) -> u8 {
        loop {
            let group = self.rng.u8(0..GROUPS.len() as u8);
            if GROUPS[usize::from(group)].proto == proto {
                return group;
            }
        }
    }

    fn open(&mut self, kind: Kind, asker: Who, carrier: Carrier, target: Target, sport: Option<u16>) -> Deed {
        self.next += 1;
        let v6 = self.rng.u8(0..100) < 30 && !matches!(carrier, Carrier::Raw(_));
        self.open.push((self.next, kind));
        Deed::Begin(Opening { flow: self.next, asker, carrier, target, sport, v6 })
    }

    /// With the holder of a group of the carrier's protocol.
    fn published(&mut self, carrier: Carrier) -> Target {
        let group = self.group(if carrier == Carrier::Tcp { "tcp" } else { "udp" });
        let served = GROUPS[usize::from(group)].count.min(SERVED);
        Target::Published(group, self.rng.u16(0..served), self.rng.bool())
    }

    /// One of these.
    fn any<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.rng.usize(0..from.len())]
    }

    /// A source port out of a published range.
    fn in_range(&mut self) -> u16 {
        let range = GROUPS.iter().find(|group| group.count > 1).expect("a range");
        range.host_port + self.rng.u16(SERVED..range.count)
    }

    fn deed(&mut self, kind: Kind) -> Deed {
        use Carrier::{ConnectedUdp, Raw, Tcp, Udp};
        let beyond = [Who::Outside, Who::Client];
        let carrier = self.any(&[Tcp, Udp, ConnectedUdp]);
        match kind {
            Kind::HostClient => {
                let target = Target::Service(self.any(&beyond), self.any(&service::OUTSIDE));
                self.open(kind, Who::Host, carrier, target, None)
            }
            Kind::HostPortInRange => {
                let target = Target::Service(self.any(&beyond), self.any(&service::OUTSIDE));
                let port = self.in_range();
                self.open(kind, Who::Host, carrier, target, Some(port))
            }
            Kind::HostLocal => {
                let target = self.published(carrier);
                self.open(kind, Who::Host, carrier, target, None)
            }
            Kind::HostBinds => {
                let group = self.rng.u8(0..GROUPS.len() as u8);
                Deed::Bind(group, self.rng.u16(0..GROUPS[usize::from(group)].count))
            }
            Kind::HostServer => {
                let asker = if self.rng.bool() { self.any(&beyond) } else { self.place() };
                let carrier = if matches!(asker, Who::Place(_)) { Tcp } else { carrier };
                self.open(kind, asker, carrier, Target::Service(Who::Host, service::HOST), None)
            }
            Kind::HostTunnel => Deed::Say(self.rng.u32(1..=service::TUNNELS.len() as u32)),
            Kind::ContainerClient => {
                let asker = self.place();
                let target = Target::Service(self.any(&beyond), self.any(&service::OUTSIDE));
                self.open(kind, asker, carrier, target, None)
            }
            Kind::ContainerPort => {
                // What the host uses as well: ports of its own range, one that is published, few for all.
                let asker = self.place();
                let sport = match self.rng.u8(0..3) {
                    0 => self.in_range(),
                    1 => self.rng.u16(service::EPHEMERAL.0..=service::EPHEMERAL.1),
                    _ => 5000 + self.rng.u16(0..8),
                };
                let target = Target::Service(Who::Outside, self.any(&service::OUTSIDE));
                self.open(kind, asker, carrier, target, Some(sport))
            }
            Kind::ContainerLocal => {
                let asker = self.place();
                let target = if self.rng.bool() {
                    self.published(carrier)
                } else {
                    Target::Neighbour(self.rng.u8(0..PLACES))
                };
                self.open(kind, asker, carrier, target, None)
            }
            Kind::ContainerTunnel => {
                // One place each, since only one of them can have a protocol without ports to one peer.
                let which = self.rng.u8(0..2);
                let proto = service::TUNNELS[usize::from(which) + 1];
                let target = Target::Service(Who::Outside, service::CONTAINERS_TUNNEL);
                self.open(kind, Who::Place(which), Raw(proto), target, None)
            }
            Kind::Ping => {
                let asker = if self.rng.bool() { Who::Host } else { self.place() };
                let target = Target::Service(Who::Outside, 0);
                let id = self.rng.u16(1..4);
                self.open(kind, asker, Raw(1), target, Some(id))
            }
            Kind::Outsider => {
                let asker = self.any(&beyond);
                let target = self.published(carrier);
                self.open(kind, asker, carrier, target, None)
            }
            Kind::ContainerFlood => self.burst(true, &[Noise::Syn, Noise::Udp], 1500),
            Kind::ContainerSpoof => self.burst(true, &[Noise::Spoofed], 40),
            Kind::ContainerTakesTunnel => self.burst(true, &[Noise::Tunnels], 6),
            Kind::ContainerReserved => self.burst(true, &[Noise::Reserved], 10),
            Kind::Vault => {
                let (count, seed) = (self.rng.u16(1..=20), self.rng.u64(..));
                Deed::Burst(Burst { from: Who::Vault, what: Noise::Escape, count, seed })
            }
            Kind::OutsiderFlood => self.burst(false, &[Noise::Syn, Noise::Udp], 1500),
            Kind::OutsiderSpoof => self.burst(false, &[Noise::Spoofed, Noise::Direct], 40),
            Kind::OutsiderBlind => {
                let flow =
                    if self.open.is_empty() { 0 } else { self.open[self.rng.usize(0..self.open.len())].0 };
                self.burst(false, &[Noise::Blind(flow)], 300)
            }
            Kind::Containers
            | Kind::Publishing
            | Kind::Sync
            | Kind::HostAddress
            | Kind::HostRoute
            | Kind::HostRule => self.administration(kind),
        }
    }

    /// What the administrator does.
    fn administration(&mut self, kind: Kind) -> Deed {
        match kind {
            Kind::Containers => {
                let place = self.rng.u8(0..PLACES);
                if self.rng.u8(0..3) == 0 { Deed::Remove(place) } else { Deed::Add(place) }
            }
            Kind::Publishing => {
                let (group, place) = (self.rng.u8(0..GROUPS.len() as u8), self.rng.u8(0..PLACES));
                match self.rng.u8(0..10) {
                    0 => Deed::Unpublish(group),
                    1 => Deed::Replace(group, place, true),
                    2..6 => Deed::Replace(group, place, false),
                    _ => Deed::Publish(group, place),
                }
            }
            Kind::HostAddress => Deed::Address,
            Kind::HostRoute => Deed::Route,
            Kind::HostRule => Deed::Rule,
            _ => Deed::Sync,
        }
    }

    fn burst(&mut self, inside: bool, what: &[Noise], most: u16) -> Deed {
        let from = if inside { self.place() } else { self.any(&[Who::Outside, Who::Client]) };
        let what = self.any(what);
        Deed::Burst(Burst { from, what, count: self.rng.u16(1..=most), seed: self.rng.u64(..) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many that the rarest actor, one in about 1,500 steps, is very likely to act.
    const STEPS: usize = 40_000;

    fn steps(seed: u64) -> Vec<String> {
        let mut plan = Plan::new(seed);
        (0..STEPS).map(|_| format!("{:?}", plan.next())).collect()
    }

    #[test]
    fn a_seed_decides_everything() {
        assert_eq!(steps(7), steps(7));
        assert_ne!(steps(7), steps(8));
    }

    #[test]
    fn everybody_acts() {
        for seed in 0..8 {
            let steps = steps(seed).concat();
            for actor in &ACTORS {
                let acts = format!("kind: {:?},", actor.kind);
                assert!(steps.contains(&acts), "{:?} never acts with seed {seed}", actor.kind);
            }
        }
    }
}
