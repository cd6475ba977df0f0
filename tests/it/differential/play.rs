//! What is sent: several flows at the same time, each with a script, mixed with odd packets, ICMP errors and packets of
//! no flow. The seed determines all of it.

use std::collections::{HashSet, VecDeque};
use std::fmt::Write as _;
use std::net::IpAddr;

use netd_tests::stimulus::{Body, Lie, Stimulus, Tuple, view};
use netd_tests::twins::{CLIENTS, End, FORWARDED, Outcome, PUBLISHED, client, far, host, inside, outside};

use super::dice::Dice;
use super::odd::{LOCAL_PORTS, lose, spoil};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Which side of a flow sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Asker,
    Answerer,
}

/// A connection, or the attempt to open one.
#[derive(Debug)]
struct Flow {
    body: Kind,
    ends: [End; 2],
    /// The tuple that the originator sends.
    outer: Tuple,
    /// The tuple that the replier receives if the source port is kept.
    inner: Tuple,
    /// The source port that the replier sees, in each world.
    seen: [u16; 2],
    /// Whether another flow has its inner tuple, or may have: then the worlds choose another source port.
    collides: bool,
    /// The rest of its script.
    script: VecDeque<(Side, u8)>,
    /// Each side's next sequence number.
    next: [u32; 2],
    /// What each side received last, in each world.
    last: [Option<[Vec<u8>; 2]>; 2],
    /// Whether one of its sides has sent a reset.
    reset: bool,
    /// Whether the two worlds may have different states of it.
    retired: bool,
    /// What was sent of it so far, as text.
    past: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Echo,
    Other,
}

impl Flow {
    fn is_v6(&self) -> bool {
        self.outer.src.is_ipv6()
    }

    /// The tuple that a side sends with in a world, and the one that the other side receives.
    fn tuples(&self, side: Side, world: usize) -> (Tuple, Tuple) {
        let inner = Tuple { sport: self.seen[world], ..self.inner };
        match side {
            Side::Asker => (self.outer, inner),
            Side::Answerer => (inner.reversed(), self.outer.reversed()),
        }
    }
}

/// Something to be sent: the same in both worlds, except for ports that a world has chosen.
#[derive(Debug)]
pub(super) struct Case {
    pub(super) what: &'static str,
    pub(super) from: End,
    pub(super) packets: [Vec<Vec<u8>>; 2],
    pub(super) stimulus: Stimulus,
    /// The other end of its flow.
    pub(super) to: Option<End>,
    /// The end where it is expected, and its tuple there in each world; none if no expectation exists.
    pub(super) expected: Option<(End, [Vec<Vec<u8>>; 2])>,
    pub(super) flow: Option<usize>,
    pub(super) side: Side,
    /// Whether one of its flow's sides has sent a reset before.
    pub(super) reset: bool,
    /// Whether it is the first of a flow whose source port the worlds may choose.
    pub(super) learns: bool,
}

impl Case {
    /// Whether a container sends to another one.
    pub(super) fn is_between_containers(&self) -> bool {
        self.from.is_container() && self.to.is_some_and(End::is_container)
    }
}

/// The generator: the current flows, and what is sent next.
pub(super) struct Play {
    dice: Dice,
    flows: Vec<Flow>,
    /// How many addresses and ports each end has used.
    used: [u32; 4],
    /// The next free address far outside.
    fars: u16,
    /// How many flows went to a published port of the machine outside.
    forwards: u32,
    /// Source ports that one of the worlds has chosen: a flow that uses one of them may find it taken.
    chosen: HashSet<u16>,
}

/// How many flows are open at a time.
const FLOWS: usize = 64;

impl Play {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            flows: Vec::new(),
            used: [0; 4],
            fars: 0,
            forwards: 0,
            chosen: HashSet::new(),
        }
    }

    /// An address and port of an end that were not used recently. No two ends behind one address share a port, and no
    /// port is a published one.
    fn fresh(&mut self, end: End, v6: bool) -> (IpAddr, u16) {
        /// Ports of an end: a prime number, so that every step width visits all of them.
        const PORTS: u32 = 19_997;
        let number = self.used[end as usize];
        self.used[end as usize] += 1;
        let first = if end == End::Second { 40_000 } else { 10_000 };
        let port = first + u16::try_from(number % PORTS * 7919 % PORTS).unwrap();
        let turn = u16::try_from(number / PORTS).unwrap();
        if turn > 0 && end.is_container() {
            // It may still be taken.
            self.chosen.insert(port);
        }
        let address = match end {
            End::Client => client(v6, u8::try_from(turn % u16::from(CLIENTS)).unwrap()),
            End::Outside => far(v6, 1000 + turn),
            End::First => inside(v6, 2),
            End::Second => inside(v6, 3),
        };
        (address, port)
    }

    /// Begins a flow and returns its number.
    fn begin(&mut self) -> usize {
        let v6 = self.dice.chance(40);
        let flow = match self.dice.u8(0..100) {
            0..47 => self.inbound(v6),
            47..55 => self.forwarded(v6),
            55..90 => self.outbound(v6),
            _ => self.hairpin(v6),
        };
        self.place(flow)
    }

    /// Adds a flow; replaces another one if there are many.
    fn place(&mut self, flow: Flow) -> usize {
        if self.flows.len() < FLOWS {
            self.flows.push(flow);
            return self.flows.len() - 1;
        }
        let place = self.dice.usize(0..FLOWS);
        self.flows[place] = flow;
        place
    }

    fn flow(&mut self, body: Kind, ends: [End; 2], outer: Tuple, inner: Tuple) -> Flow {
        let next = [self.dice.u32(..), self.dice.u32(..)];
        let script = self.script(body);
        let seen = [outer.sport; 2];
        Flow {
            body,
            ends,
            outer,
            inner,
            seen,
            collides: false,
            script,
            next,
            last: [None, None],
            reset: false,
            retired: false,
            past: String::new(),
        }
    }

    /// To a published port from one of the uplinks.
    fn inbound(&mut self, v6: bool) -> Flow {
        let end = if self.dice.chance(70) { End::Client } else { End::Outside };
        let mut entry = self.dice.pick(&PUBLISHED[..PUBLISHED.len() - 1]);
        if entry.bound && end == End::Outside {
            entry = PUBLISHED[0];
        }
        let port = entry.host_port + self.dice.u16(0..entry.count);
        let body = if entry.proto == "tcp" { Kind::Tcp } else { Kind::Udp };
        let (src, sport) = self.fresh(end, v6);
        let number = if entry.container == End::First { 2 } else { 3 };
        let outer = Tuple { src, sport, dst: host(v6, end), dport: port };
        let inner = Tuple { dst: inside(v6, number), dport: entry.target(port), ..outer };
        self.flow(body, [end, entry.container], outer, inner)
    }

    /// To a port of the machine outside that the host publishes, from the client or a container.
    fn forwarded(&mut self, v6: bool) -> Flow {
        /// The source ports of such flows, which leave by one address: nobody else's, and a prime number of them.
        const FIRST: u16 = 61_000;
        const PORTS: u32 = 4493;
        let end = self.dice.pick(&[End::Client, End::Client, End::First, End::Second]);
        let entry = self.dice.pick(&FORWARDED).forwarded(v6);
        let body = if entry.proto == "tcp" { Kind::Tcp } else { Kind::Udp };
        let (src, _) = self.fresh(end, v6);
        let sport = FIRST + u16::try_from(self.forwards % PORTS).unwrap();
        if self.forwards >= PORTS {
            // It may be taken still.
            self.chosen.insert(sport);
        }
        self.forwards += 1;
        let outer = Tuple { src, sport, dst: host(v6, End::Client), dport: entry.host_port };
        let inner = Tuple { src: host(v6, End::Outside), sport, dst: outside(v6), dport: entry.port };
        self.flow(body, [end, End::Outside], outer, inner)
    }

    /// From a container to the outside, or to the client.
    fn outbound(&mut self, v6: bool) -> Flow {
        let body = match self.dice.u8(0..100) {
            0..45 => Kind::Tcp,
            45..75 => Kind::Udp,
            75..95 => Kind::Echo,
            _ => Kind::Other,
        };
        let from = if self.dice.chance(60) { End::First } else { End::Second };
        let to = if self.dice.chance(75) { End::Outside } else { End::Client };
        let (src, sport) = self.fresh(from, v6);
        let (dst, dport) = match (body, to) {
            // Tracked by address pair: one container for each peer.
            (Kind::Other, _) => {
                self.fars += 1;
                (far(v6, 20_000 + self.fars % 20_000), 0)
            }
            (_, End::Client) => (client(v6, self.dice.u8(0..CLIENTS)), self.dice.u16(1..1024)),
            _ => (far(v6, self.dice.u16(1..200)), self.dice.u16(1..1024)),
        };
        let to = if body == Kind::Other { End::Outside } else { to };
        let (sport, dport) = match body {
            Kind::Other => (0, 0),
            Kind::Echo => (sport, 0),
            _ => (sport, dport),
        };
        let outer = Tuple { src, sport, dst, dport };
        let inner = Tuple { src: host(v6, to), ..outer };
        // netd gives it no port or identifier that the host itself may come to use.
        let collides = body == Kind::Echo || LOCAL_PORTS.contains(&sport);
        Flow { collides, ..self.flow(body, [from, to], outer, inner) }
    }

    /// From a container to a published port, its own or the other container's.
    fn hairpin(&mut self, v6: bool) -> Flow {
        let from = if self.dice.chance(50) { End::First } else { End::Second };
        let entry = self.dice.pick(&PUBLISHED[..PUBLISHED.len() - 1]);
        let port = entry.host_port + self.dice.u16(0..entry.count);
        let body = if entry.proto == "tcp" { Kind::Tcp } else { Kind::Udp };
        let (src, sport) = self.fresh(from, v6);
        let by = if entry.bound || self.dice.chance(50) { End::Client } else { End::Outside };
        let number = if entry.container == End::First { 2 } else { 3 };
        let outer = Tuple { src, sport, dst: host(v6, by), dport: port };
        let itself = entry.container == from;
        let inner = Tuple {
            src: if itself { inside(v6, 1) } else { src },
            dst: inside(v6, number),
            dport: entry.target(port),
            sport,
        };
        let collides = itself && LOCAL_PORTS.contains(&sport);
        Flow { collides, ..self.flow(body, [from, entry.container], outer, inner) }
    }

    /// The script of a flow: what its sides send, one after the other.
    fn script(&mut self, body: Kind) -> VecDeque<(Side, u8)> {
        use Side::{Answerer, Asker};
        let mut script = VecDeque::new();
        let data = self.dice.usize(0..5);
        let talk = |dice: &mut Dice, flags| (if dice.bool() { Asker } else { Answerer }, flags);
        if body != Kind::Tcp {
            script.push_back((Asker, 0));
            if self.dice.chance(80) {
                script.push_back((Answerer, 0));
            }
            for _ in 0..data {
                let word = talk(&mut self.dice, 0);
                script.push_back(word);
            }
            return script;
        }
        let handshake = [(Asker, SYN), (Answerer, SYN | ACK), (Asker, ACK)];
        script.extend(handshake);
        for _ in 0..data {
            let word = talk(&mut self.dice, ACK | PSH);
            script.push_back(word);
        }
        match self.dice.u8(0..10) {
            0..4 => script.extend([(Asker, FIN | ACK), (Answerer, FIN | ACK), (Asker, ACK)]),
            4..6 => script.extend([(Answerer, FIN | ACK), (Asker, ACK), (Asker, FIN | ACK), (Answerer, ACK)]),
            6 => script.push_back((Asker, RST)),
            7 => script.push_back((Answerer, RST | ACK)),
            _ => return script,
        }
        if self.dice.chance(40) {
            script.extend(handshake);
            script.push_back((Asker, ACK | PSH));
        }
        script
    }

    /// The next case.
    pub(super) fn next(&mut self) -> Case {
        let roll = self.dice.u8(0..100);
        if self.flows.is_empty() || roll < 20 {
            let flow = self.begin();
            return self.speak(flow);
        }
        if roll < 26 {
            return self.stray();
        }
        let number = self.dice.usize(0..self.flows.len());
        if roll < 30
            && let Some(case) = self.collide(number)
        {
            return case;
        }
        let flow = &self.flows[number];
        if !flow.retired && roll < 42 && flow.last.iter().any(Option::is_some) {
            return self.error(number);
        }
        if flow.retired || flow.script.is_empty() {
            let flow = self.begin();
            return self.speak(flow);
        }
        if roll < 65 && !flow.collides { self.odd(number) } else { self.speak(number) }
    }

    /// Another flow with the same tuple on the container's side, if possible.
    fn collide(&mut self, number: usize) -> Option<Case> {
        let first = &self.flows[number];
        if first.retired || first.reset || first.collides || first.last[1].is_none() {
            return None;
        }
        let v6 = first.is_v6();
        let (body, mut ends, mut outer, inner) = (first.body, first.ends, first.outer, first.inner);
        match (ends[0], outer.dport) {
            (End::First, _) if !ends[1].is_container() && body != Kind::Other => {
                ends[0] = End::Second;
                outer.src = inside(v6, 3);
            }
            (End::Client | End::Outside, 8080) => outer.dport = 8081,
            (End::Client | End::Outside, 5353) => outer.dport = 5355,
            _ => return None,
        }
        let mut flow = self.flow(body, ends, outer, inner);
        flow.collides = true;
        self.flows[number].collides = true;
        let number = self.place(flow);
        Some(self.speak(number))
    }

    /// An odd variant of a flow's next packet. The flow then continues as if it had not been sent.
    fn odd(&mut self, number: usize) -> Case {
        let (side, flags) = self.flows[number].script[0];
        let next = self.flows[number].next;
        let mut stimulus = self.plain(number, side, flags);
        self.flows[number].next = next;
        let (from, to) = self.flows[number].tuples(side, 0);
        let what = spoil(&mut self.dice, &mut stimulus, &from, &to);
        self.case(what, number, side, stimulus)
    }

    /// An ICMP error about what a side received last.
    fn error(&mut self, number: usize) -> Case {
        let flow = &self.flows[number];
        let v6 = flow.is_v6();
        let side = match &flow.last {
            [Some(_), None] => Side::Asker,
            [None, Some(_)] => Side::Answerer,
            _ if flow.collides || self.dice.bool() => Side::Answerer,
            _ => Side::Asker,
        };
        let flow = &self.flows[number];
        let (from, collides, reset) = (flow.ends[side as usize], flow.collides, flow.reset);
        let to = Some(flow.ends[1 - side as usize]);
        let quotes = flow.last[side as usize].clone().unwrap();
        let about = view(&quotes[0]).unwrap();
        let src = match from {
            End::Client if self.dice.chance(50) => client(v6, CLIENTS - 1),
            End::Outside if self.dice.chance(50) => far(v6, 999),
            _ => about.dst,
        };
        let kinds: &[[u8; 2]] = if v6 {
            &[[1, 0], [1, 1], [1, 4], [2, 0], [3, 0], [3, 1], [4, 0], [4, 1], [100, 0]]
        } else {
            &[[3, 0], [3, 1], [3, 3], [3, 4], [3, 13], [4, 0], [5, 1], [11, 0], [11, 1], [12, 0]]
        };
        let kind = self.dice.pick(kinds);
        let second = if matches!((v6, kind), (false, [3, 4]) | (true, [2, 0])) { 1280 } else { 0 };
        let len = quotes[0].len();
        let keep = match self.dice.u8(0..4) {
            // A part of the checksum depends on the port that was chosen.
            _ if collides => 576,
            0 => about.start + 8,
            1 => about.start + self.dice.usize(0..40),
            _ => 576,
        }
        .min(len)
        .min(1232);
        let tuple = Tuple { src, dst: about.src, sport: 0, dport: 0 };
        let mut stimulus = Stimulus {
            ttl: self.dice.u8(3..),
            id: self.dice.u16(1..),
            ..Stimulus::new(Body::Message { kind, rest: second })
        };
        let what = match self.dice.u8(0..20) {
            0 => {
                stimulus.lie = Lie::Checksum(self.dice.u16(1..0xffff));
                "error, checksum"
            }
            1 => {
                stimulus.ttl = self.dice.u8(0..2);
                "error, ttl"
            }
            2 if !v6 => {
                stimulus.options = vec![1, 1, 1, 0];
                "error, options"
            }
            _ => "error",
        };
        let packets = quotes
            .map(|quote| Stimulus { payload: quote[..keep].to_vec(), ..stimulus.clone() }.packets(&tuple));
        stimulus.payload = quotes_start(&packets[0]);
        Case {
            what,
            from,
            to,
            packets,
            stimulus,
            expected: None,
            flow: Some(number),
            side,
            reset,
            learns: false,
        }
    }

    /// A packet of no flow.
    fn stray(&mut self) -> Case {
        let v6 = self.dice.chance(40);
        let end = End::ALL[self.dice.usize(0..4)];
        let (mut src, mut sport) = self.fresh(end, v6);
        if self.chosen.contains(&sport) {
            (src, sport) = self.fresh(end, v6);
        }
        let own_host = match end {
            End::Client | End::Outside => host(v6, end),
            _ if self.dice.bool() => inside(v6, 1),
            _ => host(v6, End::Outside),
        };
        let mut tuple = Tuple { src, sport, dst: own_host, dport: self.dice.u16(20_000..29_000) };
        let (what, body) = lose(&mut self.dice, end, &mut tuple);
        let len = self.dice.usize(0..40);
        let payload = self.dice.bytes(len);
        let mut stimulus =
            Stimulus { payload, id: self.dice.u16(1..), ttl: self.dice.u8(3..), ..Stimulus::new(body) };
        if what == "error about nothing" {
            let unknown = Tuple { src: tuple.dst, dst: far(v6, 3), sport, dport: 9 };
            stimulus.payload = Stimulus::new(Body::Udp).packets(&unknown).remove(0);
        }
        let packets = stimulus.packets(&tuple);
        Case {
            what,
            from: end,
            packets: [packets.clone(), packets],
            stimulus,
            to: None,
            expected: None,
            flow: None,
            side: Side::Asker,
            reset: false,
            learns: false,
        }
    }

    /// The next step of a flow's script.
    fn speak(&mut self, number: usize) -> Case {
        let (side, flags) = self.flows[number].script.pop_front().unwrap();
        let stimulus = self.plain(number, side, flags);
        self.case("script", number, side, stimulus)
    }

    /// A correct packet that a side sends.
    fn plain(&mut self, number: usize, side: Side, flags: u8) -> Stimulus {
        let len = if flags & (SYN | RST) != 0 { 0 } else { self.dice.usize(0..64) };
        let payload = self.dice.bytes(len);
        let flow = &mut self.flows[number];
        let (own, other) = (side as usize, 1 - side as usize);
        let body = match flow.body {
            Kind::Tcp => {
                let (seq, ack) = (flow.next[own], flow.next[other]);
                let used = u32::try_from(len).unwrap() + u32::from(flags & (SYN | FIN) != 0);
                flow.next[own] = seq.wrapping_add(used);
                let options = if flags & SYN != 0 { vec![2, 4, 5, 180] } else { Vec::new() };
                Body::Tcp { flags, seq, ack: if flags & ACK != 0 { ack } else { 0 }, options }
            }
            Kind::Udp => Body::Udp,
            Kind::Echo => Body::Echo { request: side == Side::Asker, seq: self.dice.u16(..) },
            Kind::Other => Body::Other(253),
        };
        Stimulus {
            payload,
            id: self.dice.u16(1..),
            tos: self.dice.u8(..),
            whole: self.dice.bool(),
            ttl: self.dice.u8(3..),
            ..Stimulus::new(body)
        }
    }

    fn case(&self, what: &'static str, number: usize, side: Side, stimulus: Stimulus) -> Case {
        let flow = &self.flows[number];
        let (from, to) = (flow.ends[side as usize], flow.ends[1 - side as usize]);
        let may_choose = flow.collides || self.chosen.contains(&flow.outer.sport);
        let begins = matches!(stimulus.body, Body::Tcp { flags: SYN, .. });
        let passed = Stimulus { ttl: stimulus.ttl.saturating_sub(1), ..stimulus.clone() };
        Case {
            what,
            from,
            packets: [0, 1].map(|world| stimulus.packets(&flow.tuples(side, world).0)),
            expected: Some((to, [0, 1].map(|world| passed.packets(&flow.tuples(side, world).1)))),
            stimulus,
            to: Some(to),
            flow: Some(number),
            side,
            reset: flow.reset,
            learns: may_choose && side == Side::Asker && (flow.last[1].is_none() || begins),
        }
    }
}

/// The first bytes of a message's quote.
fn quotes_start(packets: &[Vec<u8>]) -> Vec<u8> {
    let start = view(&packets[0]).unwrap().start + 8;
    packets[0][start..].to_vec()
}

impl Play {
    /// Notes what the other side received, in each world.
    pub(super) fn received(&mut self, case: &Case, packets: [&Vec<u8>; 2]) {
        if let Some(flow) = case.flow {
            self.flows[flow].last[1 - case.side as usize] = Some(packets.map(Clone::clone));
        }
    }

    /// Stops a case's flow.
    pub(super) fn retire(&mut self, case: &Case) {
        if let Some(flow) = case.flow {
            self.flows[flow].retired = true;
        }
    }

    /// Notes that a case was sent.
    pub(super) fn note(&mut self, number: u64, case: &Case) {
        if let Some(flow) = case.flow {
            let flow = &mut self.flows[flow];
            write!(flow.past, "{number} {} of {:?}; ", case.what, case.side).unwrap();
            flow.reset |= matches!(case.stimulus.body, Body::Tcp { flags, .. } if flags & RST != 0);
        }
    }

    /// What was sent of a case's flow before it.
    pub(super) fn past(&self, case: &Case) -> &str {
        case.flow.map_or("", |flow| &self.flows[flow].past)
    }

    /// Notes the source port that each world has chosen for a flow.
    pub(super) fn learn(&mut self, case: &mut Case, outcomes: &[Outcome; 2]) {
        let number = case.flow.unwrap();
        let Some((end, _)) = &case.expected else { return };
        let ports = outcomes.each_ref().map(|outcome| {
            let packet = outcome.arrived.iter().find(|(at, _)| at == end).map(|(_, packet)| packet)?;
            let view = view(packet)?;
            let at = if self.flows[number].body == Kind::Echo { view.start + 4 } else { view.start };
            Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?))
        });
        let own = self.flows[number].outer.sport;
        let mut collides = false;
        for (seen, port) in self.flows[number].seen.iter_mut().zip(ports) {
            *seen = port.unwrap_or(*seen);
            if *seen != own {
                self.chosen.insert(*seen);
                collides = true;
            }
        }
        self.flows[number].collides |= collides;
        *case = self.case(case.what, number, case.side, case.stimulus.clone());
    }
}
