//! Flows of the honest: how they begin, go on, end, and when something is wrong with them.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use netd_tests::packet::checksum;

use crate::actors::Kind;
use crate::ground::{
    ANYCAST, CLIENT, GATEWAY, GROUPS, Group, HOST, HOST_OUTSIDE, LOOPBACK, OUTSIDE, SECOND, TUNNEL_PEER,
    VAULT, service,
};
use crate::judge::Promise;
use crate::label::{BURST, Label, Meant, Party};
use crate::plan::{Carrier, Opening, Target, Who};
use crate::sockets::{self, Socket};
use crate::world::{Flow, Role, World};

/// How long TCP tries before something is wrong: longer than it needs to send four times.
const PATIENCE: Duration = Duration::from_secs(16);
/// How long an answer may take that nobody sends again.
const LOST: Duration = Duration::from_secs(4);

impl Flow {
    /// From which port it is, if not from one that the kernel chose.
    pub(crate) fn source_port(&self) -> u16 {
        self.opening.sport.unwrap_or_else(|| own_port(&self.opening))
    }
}

impl World {
    /// Tries to take a port of a group with a process of the host: in vain if it is published.
    pub(crate) fn bind(&mut self, kind: Kind, group: u8, nth: u16) {
        let Group { proto, host_port, .. } = GROUPS[usize::from(group)];
        self.settle();
        if self.admin.holders[usize::from(group)].is_none() {
            return;
        }
        let at = SocketAddr::new(IpAddr::from([0; 4]), host_port + nth);
        let bound = self.lab.host.run(|| match proto {
            "tcp" => TcpListener::bind(at).map(drop),
            _ => UdpSocket::bind(at).map(drop),
        });
        match bound {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {}
            Err(error) => {
                self.judge.breach(
                    Promise::Reserved,
                    Some(kind),
                    0,
                    &format!("binding {proto} {at}: {error}"),
                );
            }
            Ok(()) => {
                self.judge.breach(
                    Promise::Reserved,
                    Some(kind),
                    0,
                    &format!("the host could bind {proto} {at}, which is published"),
                );
            }
        }
    }

    /// Who acts for `who`, if he is there.
    pub(crate) fn party(&self, who: Who) -> Option<Party> {
        match who {
            Who::Host => Some(Party::Host),
            Who::Client => Some(Party::Client),
            Who::Outside => Some(Party::Outside),
            Who::Place(place) => self.places[usize::from(place)].as_ref().map(|container| container.party),
            Who::Vault => Some(VAULT),
        }
    }

    /// Where a flow goes and for whom it is; none if there is no such thing now.
    fn destination(&self, opening: &Opening) -> Option<(SocketAddr, Meant)> {
        let v6 = opening.v6;
        match opening.target {
            Target::Published(group, nth, other) => {
                self.admin.holders[usize::from(group)]?;
                let address = match opening.asker {
                    Who::Host | Who::Client if other && self.admin.has_second() => SECOND,
                    Who::Host => LOOPBACK,
                    Who::Outside => HOST_OUTSIDE,
                    Who::Place(_) if other => GATEWAY,
                    Who::Client | Who::Place(_) | Who::Vault => HOST,
                };
                let port = GROUPS[usize::from(group)].host_port + nth;
                Some((SocketAddr::new(address.of(v6), port), Meant::Holder(group)))
            }
            Target::Service(Who::Host, port) => {
                let address = if opening.asker == Who::Outside { HOST_OUTSIDE } else { HOST };
                Some((SocketAddr::new(address.of(v6), port), Meant::For(Party::Host)))
            }
            Target::Service(_, service::ROUTED) => {
                Some((SocketAddr::new(ANYCAST.of(v6), service::ROUTED), Meant::Anybody))
            }
            Target::Service(who, port) => {
                let address = match (who, port) {
                    (_, service::CONTAINERS_TUNNEL) => TUNNEL_PEER,
                    (Who::Client, _) => CLIENT,
                    _ => OUTSIDE,
                };
                Some((SocketAddr::new(address.of(v6), port), Meant::For(self.party(who)?)))
            }
            Target::Neighbour(place) => {
                let neighbour = self.places[usize::from(place)].as_ref()?;
                let is_own = opening.asker == Who::Place(place);
                let port = if opening.carrier == Carrier::Tcp { service::TCP[0] } else { service::UDP[0] };
                let to = SocketAddr::new(neighbour.addresses[usize::from(v6)], port);
                (!is_own).then_some((to, Meant::For(neighbour.party)))
            }
        }
    }

    /// Begins a flow, if those are there who take part in it.
    pub(crate) fn begin(&mut self, kind: Kind, opening: Opening) {
        let Some(asker) = self.party(opening.asker) else { return };
        let Some((to, meant)) = self.destination(&opening) else { return };
        let netns = match opening.asker {
            Who::Host => self.lab.host.path(),
            Who::Client => self.lab.client.path(),
            Who::Outside => self.lab.outside.path(),
            Who::Place(place) => self.places[usize::from(place)].as_ref().expect("it asks").path.clone(),
            Who::Vault => unreachable!("it only sends bursts"),
        };
        let is_tcp = opening.carrier == Carrier::Tcp;
        // But for the host, whose kernel chooses, nobody uses a port twice: a connection that netd remembers would meet it.
        let sport = opening.sport.or((opening.asker != Who::Host).then(|| own_port(&opening)));
        let socket = match opening.carrier {
            Carrier::Raw(protocol) => self.raws[&(asker, protocol)],
            _ => {
                let connected = opening.carrier != Carrier::Udp;
                match sockets::client(&netns, is_tcp, sport, to, connected) {
                    Ok(socket) => self.enter(socket, asker, Role::Asks(opening.flow)),
                    // Published, in use otherwise, or in use with this peer.
                    Err(error)
                        if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) =>
                    {
                        return;
                    }
                    Err(error) => {
                        self.judge.begins(opening.flow, kind);
                        let text = format!("{asker} cannot begin a connection to {to}: {error}");
                        if !self.admin.concerns(&opening) {
                            self.judge.breach(Promise::Connects, Some(kind), opening.flow, &text);
                        }
                        return;
                    }
                }
            }
        };
        self.judge.begins(opening.flow, kind);
        let flow = Flow {
            opening,
            kind,
            asker,
            meant,
            to,
            seq: 0,
            waits: is_tcp.then(Instant::now),
            connecting: is_tcp,
            peer: None,
            excused: self.admin.concerns(&opening),
            socket,
        };
        self.flows.insert(opening.flow, flow);
        if !is_tcp {
            self.say(opening.flow);
        }
    }

    /// Sends the next payload of a flow, unless it still waits for the last answer.
    pub(crate) fn say(&mut self, number: u32) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        if flow.waits.is_some() {
            return;
        }
        flow.seq += 1;
        flow.waits = Some(Instant::now());
        let label = Label { from: flow.asker, meant: flow.meant, flow: number, seq: flow.seq, asks: true };
        let bytes = label.bytes();
        let sent = match (&self.sockets[&flow.socket].socket, flow.opening.carrier) {
            (Socket::Stream(stream), _) => sockets::write(stream, &bytes),
            (Socket::Udp(socket), carrier) => {
                let sent = if carrier == Carrier::Udp {
                    socket.send_to(&bytes, flow.to)
                } else {
                    socket.send(&bytes)
                };
                self.judge.sent += u64::from(sent.is_ok());
                sent.map(drop)
            }
            (Socket::Raw(socket), Carrier::Raw(1)) => {
                let id = flow.opening.sport.unwrap_or(1);
                sockets::send_raw(socket, flow.to.ip(), &echo_request(id, flow.seq, &bytes))
            }
            (Socket::Raw(socket), _) => sockets::send_raw(socket, flow.to.ip(), &bytes),
            (Socket::Listener(_), _) => unreachable!("a listener asks nobody"),
        };
        if let Err(error) = sent {
            let promise =
                if flow.opening.carrier == Carrier::Tcp { Promise::Established } else { Promise::Arrives };
            self.fails(number, promise, &format!("sending says: {error}"));
        }
    }

    /// Ends a flow.
    pub(crate) fn end(&mut self, number: u32, reset: bool) {
        let Some(flow) = self.flows.get(&number) else { return };
        if matches!(flow.opening.carrier, Carrier::Raw(_)) {
            self.end_flow(number);
            return;
        }
        let (key, connecting) = (flow.socket, flow.connecting);
        // What has come is judged all the same.
        if !connecting {
            self.read(key);
        }
        if let Some(entry) = self.sockets.remove(&key)
            && let Socket::Stream(stream) = &entry.socket
            && reset
        {
            sockets::abort(stream);
        }
        self.end_flow(number);
    }

    /// Reads what a TCP server answers, or whether the connection is there.
    pub(crate) fn read_answers(&mut self, key: u64, number: u32) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        let Socket::Stream(stream) = &self.sockets[&key].socket else { return };
        if flow.connecting {
            match stream.take_error().expect("a socket's error") {
                None => {
                    (flow.connecting, flow.waits) = (false, None);
                    self.say(number);
                }
                Some(error) => {
                    self.fails(number, Promise::Connects, &format!("cannot connect: {error}"));
                }
            }
            return;
        }
        let mut buffer = [0; 4096];
        let mut answers = Vec::new();
        let end = loop {
            match sockets::read(stream, &mut buffer) {
                None => break None,
                Some(Ok(0)) => break Some("it was closed by the other side".to_owned()),
                Some(Err(error)) => break Some(format!("it ends with: {error}")),
                Some(Ok(len)) => {
                    answers.extend(buffer[..len].split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec));
                }
            }
        };
        let asker = flow.asker;
        for line in answers {
            match Label::parse(&line) {
                Some(label) => {
                    self.judge.receives(asker, label, "by TCP");
                    self.answered(number, label);
                }
                None => {
                    let text =
                        format!("{asker} got bytes that nobody sent: {}", String::from_utf8_lossy(&line));
                    let kind = self.flows[&number].kind;
                    self.judge.breach(Promise::Delivery, Some(kind), number, &text);
                }
            }
        }
        if let Some(why) = end {
            self.fails(number, Promise::Established, &why);
        }
    }

    /// Notes an answer that a flow's socket has got.
    pub(crate) fn answered(&mut self, number: u32, label: Label) {
        let Some(flow) = self.flows.get_mut(&number) else { return };
        if label.flow & BURST != 0 {
            // Its own host has sent a burst from the same port.
            return;
        }
        if label.flow != number {
            let text = format!("the socket of flow {number} of {} got '{label}'", flow.asker);
            self.judge.breach(Promise::Delivery, Some(flow.kind), number, &text);
            return;
        }
        if label.seq == flow.seq {
            flow.waits = None;
        }
        let before = flow.peer.replace(label.from);
        let changed = before.is_some_and(|before| before != label.from);
        if changed && flow.opening.carrier == Carrier::Tcp {
            let text =
                format!("a connection of {} was answered by {before:?}, then by {}", flow.asker, label.from);
            self.judge.breach(Promise::Delivery, Some(flow.kind), number, &text);
        }
    }

    /// Ends a flow that cannot go on: a breach, unless that is excused.
    pub(crate) fn fails(&mut self, number: u32, promise: Promise, why: &str) {
        let Some(flow) = self.flows.get(&number) else { return };
        let (kind, since) = (flow.kind, flow.waits);
        // A socket is connected before netd has seen the last packet of the handshake, which establishes the connection.
        let is_new = promise == Promise::Established && flow.peer.is_none();
        let promise = if is_new { Promise::Connects } else { promise };
        // A full table refuses what is new, and says so. It takes nothing from what is old.
        let carrier = flow.opening.carrier;
        let refused =
            promise != Promise::Established && since.is_some_and(|since| self.refused_since(since, carrier));
        if !flow.excused && !refused {
            let text = format!(
                "{:?} from {} to {} ({}): {why}",
                flow.opening.carrier, flow.asker, flow.to, flow.meant
            );
            self.judge.breach(promise, Some(kind), number, &text);
        }
        let is_raw = matches!(flow.opening.carrier, Carrier::Raw(_));
        if is_raw && flow.kind == Kind::HostTunnel {
            // It is begun but once.
            self.flows.get_mut(&number).expect("it is there").waits = None;
            return;
        }
        if !is_raw {
            self.sockets.remove(&flow.socket);
        }
        self.end_flow(number);
    }

    /// Forgets a flow whose asker has closed its socket.
    fn end_flow(&mut self, number: u32) {
        self.judge.ends(number);
        self.flows.remove(&number);
    }

    /// Looks for flows that have waited too long.
    pub(crate) fn look_for_silence(&mut self) {
        let silent: Vec<(u32, Promise)> = self
            .flows
            .iter()
            .filter_map(|(number, flow)| {
                let waited = flow.waits?.elapsed();
                let (promise, limit) = match (flow.opening.carrier, flow.connecting) {
                    (Carrier::Tcp, true) => (Promise::Connects, PATIENCE),
                    (Carrier::Tcp, false) => (Promise::Established, PATIENCE),
                    _ => (Promise::Arrives, LOST),
                };
                (waited > limit).then_some((*number, promise))
            })
            .collect();
        for (number, promise) in silent {
            self.fails(number, promise, "no answer");
        }
    }

    /// Whether nobody waits for anything.
    pub(crate) fn is_quiet(&self) -> bool {
        self.flows.values().all(|flow| flow.waits.is_none())
    }

    /// Excuses flows from living on.
    pub(crate) fn excuse(&mut self, which: impl Fn(&Flow) -> bool) {
        for flow in self.flows.values_mut().filter(|flow| which(flow)) {
            flow.excused = true;
        }
    }
}

/// A flow's own source port.
fn own_port(opening: &Opening) -> u16 {
    u16::try_from(10_000 + opening.flow % 20_000).expect("a port")
}

/// An echo request with this identifier and number.
fn echo_request(id: u16, seq: u32, payload: &[u8]) -> Vec<u8> {
    let [.., high, low] = seq.to_be_bytes();
    let [id_high, id_low] = id.to_be_bytes();
    let mut message = vec![8, 0, 0, 0, id_high, id_low, high, low];
    message.extend(payload);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}
