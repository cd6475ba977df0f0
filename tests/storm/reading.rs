//! What is read from all sockets, answered and judged.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;
use std::time::Duration;

use netd_tests::stimulus::{View, number, view};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::ground;
use crate::judge::{Judge, Promise};
use crate::label::{Label, Party};
use crate::sockets::{self, Socket};
use crate::world::{Entry, Role, World};

impl World {
    /// Reads from every socket that has something, after waiting for that so long. Returns whether there was something.
    pub(crate) fn pump(&mut self, wait: Duration) -> bool {
        let keys: Vec<u64> = self.sockets.keys().copied().collect();
        let mut waits: Vec<PollFd<'_>> = self
            .sockets
            .values()
            .map(|entry| {
                let connects = matches!(entry.role, Role::Asks(flow) if self.flows.get(&flow).is_some_and(|flow| flow.connecting));
                PollFd::new(entry.socket.as_fd(), if connects { PollFlags::POLLOUT } else { PollFlags::POLLIN })
            })
            .collect();
        let limit = PollTimeout::try_from(wait).expect("a short time");
        poll(&mut waits, limit).expect("poll");
        let ready: Vec<u64> = keys
            .into_iter()
            .zip(&waits)
            .filter(|(_, wait)| wait.any().unwrap_or_default())
            .map(|(key, _)| key)
            .collect();
        for key in &ready {
            self.read(*key);
        }
        self.finish_command();
        !ready.is_empty()
    }

    /// Reads all that a socket has.
    pub(crate) fn read(&mut self, key: u64) {
        let Some(entry) = self.sockets.get(&key) else { return };
        let (party, role) = (entry.party, entry.role);
        match &entry.socket {
            Socket::Listener(listener) => {
                let mut accepted = Vec::new();
                while let Ok((stream, _)) = listener.accept() {
                    accepted.push(stream);
                }
                for stream in accepted {
                    stream.set_nonblocking(true).expect("nonblocking");
                    self.enter(Socket::Stream(stream), party, Role::Serves);
                }
            }
            Socket::Stream(_) => match role {
                Role::Asks(flow) => self.read_answers(key, flow),
                _ => self.serve_stream(key, party),
            },
            Socket::Udp(_) => self.read_datagrams(key, party, role),
            Socket::Raw(_) => match role {
                Role::Sees { wire } => self.see(key, party, wire),
                _ => self.read_packets(key, party),
            },
        }
    }

    /// Answers what a TCP client asks.
    fn serve_stream(&mut self, key: u64, party: Party) {
        let Some(Entry { socket: Socket::Stream(stream), .. }) = self.sockets.get(&key) else { return };
        let is_open = loop {
            match sockets::read(stream, &mut self.buffer) {
                None => break true,
                Some(Ok(len @ 1..)) => {
                    for line in self.buffer[..len].split_inclusive(|byte| *byte == b'\n') {
                        match Label::parse(line) {
                            Some(label) => {
                                self.judge.receives(party, label, "by a TCP server");
                                // A client that is gone gets no answer.
                                let _gone = sockets::write(stream, &label.answer(party).bytes());
                            }
                            None => foreign(&mut self.judge, party, line),
                        }
                    }
                }
                Some(_) => break false,
            }
        };
        if !is_open {
            self.sockets.remove(&key);
        }
    }

    /// Reads a UDP socket, and answers if it is a server's.
    fn read_datagrams(&mut self, key: u64, party: Party, role: Role) {
        let mut answers = Vec::new();
        loop {
            let Some(Entry { socket: Socket::Udp(socket), .. }) = self.sockets.get(&key) else { return };
            match socket.recv_from(&mut self.buffer) {
                Ok((len, from)) => {
                    self.judge.arrived += u64::from(party == Party::Host);
                    let Some(label) = Label::parse(&self.buffer[..len]) else {
                        foreign(&mut self.judge, party, &self.buffer[..len]);
                        continue;
                    };
                    self.judge.receives(party, label, &format!("by UDP from {from}"));
                    if role == Role::Serves && label.asks {
                        let sent = socket.send_to(&label.answer(party).bytes(), from);
                        self.judge.sent += u64::from(sent.is_ok());
                    } else if let Role::Asks(flow) = role {
                        answers.push((flow, label));
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    if let Role::Asks(flow) = role {
                        self.fails(flow, Promise::Arrives, &format!("its socket says: {error}"));
                    }
                    break;
                }
            }
        }
        for (flow, label) in answers {
            self.answered(flow, label);
        }
    }

    /// Reads packets of protocols without ports, and answers if it is the tunnels' peer.
    fn read_packets(&mut self, key: u64, party: Party) {
        loop {
            let Some(Entry { socket: Socket::Raw(socket), .. }) = self.sockets.get(&key) else { return };
            let Some(len) = sockets::next_packet(socket, &mut self.buffer) else { return };
            let packet = &self.buffer[..len];
            let (Some(label), Some(ip)) = (Label::in_packet(packet), view(packet)) else { continue };
            let is_request = ip.protocol == number::ICMP && packet[ip.start] != 0;
            if is_request {
                continue;
            }
            self.judge.receives(party, label, &format!("by protocol {} from {}", ip.protocol, ip.src));
            if party == Party::Outside && label.asks {
                // Who is gone gets no answer.
                let _gone = sockets::send_raw(socket, ip.src, &label.answer(party).bytes());
            } else if !label.asks {
                self.answered(label.flow, label);
            }
        }
    }

    /// Looks at frames that come in.
    fn see(&mut self, key: u64, party: Party, wire: bool) {
        loop {
            let Some(Entry { socket: Socket::Raw(socket), .. }) = self.sockets.get(&key) else { return };
            let Some((is_own, len)) = sockets::next_frame(socket, &mut self.buffer) else { return };
            let Some(packet) = self.buffer.get(14..len) else { continue };
            let Some(ip) = view(packet).filter(|_| matches!(self.buffer[12..14], [8, 0] | [0x86, 0xdd]))
            else {
                continue;
            };
            let label = Label::in_packet(packet);
            if wire && ground::is_hidden(ip.src) {
                let (flow, kind) = label.map_or((0, None), |label| (label.flow, self.judge.kind(label.flow)));
                let said = label.map_or_else(String::new, |label| label.to_string());
                let text =
                    format!("{party} saw {} to {} by protocol {}: '{said}'", ip.src, ip.dst, ip.protocol);
                self.judge.breach(Promise::Hidden, kind, flow, &text);
            }
            if let (true, Some(label)) = (is_own, label) {
                self.judge.arrived += u64::from(ip.protocol == number::UDP);
                let is_echo_request = ip.protocol == number::ICMP && packet[ip.start] == 8;
                if !is_echo_request {
                    let way = way_of(&ip, packet);
                    self.judge.receives(party, label, &way);
                }
            }
        }
    }
}

/// From where to where a packet goes.
fn way_of(ip: &View, packet: &[u8]) -> String {
    let View { src, dst, protocol, start, .. } = *ip;
    let half = |at: usize| packet.get(at..at + 2).map_or(0, |it| u16::from_be_bytes([it[0], it[1]]));
    if !matches!(protocol, number::TCP | number::UDP) {
        return format!("in a frame of protocol {protocol} from {src} to {dst}");
    }
    let (src, dst) = (SocketAddr::new(src, half(start)), SocketAddr::new(dst, half(start + 2)));
    let flags = if protocol == number::TCP { packet.get(start + 13).copied() } else { None };
    format!("in a frame of protocol {protocol} from {src} to {dst}, flags {:#04x}", flags.unwrap_or(0))
}

/// Notes bytes that no actor sent.
fn foreign(judge: &mut Judge, party: Party, bytes: &[u8]) {
    let text = format!("{party} got bytes that nobody sent: {}", String::from_utf8_lossy(bytes));
    judge.breach(Promise::Delivery, None, 0, &text);
}
