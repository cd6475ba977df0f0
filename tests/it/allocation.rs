//! Source ports of masqueraded connections: two CPUs never allocate the same tuple, and no tuple of a publication or a
//! host socket is allocated.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use netd_tests::lab::Lab;
use netd_tests::packet::Packet;

/// TC's number (linux/pkt_cls.h).
const REDIRECT: i32 = 7;
/// The host's address on the interface of its default route.
pub(crate) const HOST_OUTSIDE: [u8; 4] = [198, 19, 0, 1];
/// A peer beyond that interface.
pub(crate) const FAR: [u8; 4] = [203, 0, 113, 1];
/// How many threads send at once.
const THREADS: usize = 4;

/// Makes a packet from its source and its destination.
type Make = fn(([u8; 4], u16), ([u8; 4], u16)) -> Packet;

/// An interface that packets come in by, and a program on it.
pub(crate) struct Door {
    program: SchedClassifier,
    index: u32,
    mac: [u8; 6],
}

impl Door {
    pub(crate) fn new(lab: &Lab, program: &str, interface: &str) -> Self {
        let shown: serde_json::Value =
            serde_json::from_str(&lab.host.sh(&format!("ip -j link show {interface}"))).unwrap();
        let mac = shown[0]["address"].as_str().unwrap();
        let mac: Vec<u8> = mac.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
        Self {
            program: SchedClassifier::from_pin(lab.program(program)).unwrap(),
            index: u32::try_from(shown[0]["ifindex"].as_u64().unwrap()).unwrap(),
            mac: mac.try_into().unwrap(),
        }
    }

    /// The hook of a container's packets.
    pub(crate) fn of_container(lab: &Lab, name: &str) -> Self {
        let inspected = lab.netd(&["--json", "container", "inspect", name]).ok().json();
        Self::new(lab, "container_ingress", inspected["host_interface"].as_str().unwrap())
    }

    /// Runs a packet through the program, from a thread in the host; none if it is not sent on.
    pub(crate) fn pass(&self, packet: &Packet) -> Option<Vec<u8>> {
        self.pass_from(packet.from.0, packet.bytes())
    }

    /// The same with a frame of the container that has this address.
    pub(crate) fn pass_from(&self, address: [u8; 4], mut frame: Vec<u8>) -> Option<Vec<u8>> {
        // A container's MAC address is made of its address.
        frame[6..12].copy_from_slice(&[&[2, 0x42], &address[..]].concat());
        self.pass_frame(frame)
    }

    /// The same with any frame.
    pub(crate) fn pass_frame(&self, mut frame: Vec<u8>) -> Option<Vec<u8>> {
        frame[..6].copy_from_slice(&self.mac);
        let mut context = [0_u8; 192];
        // `ifindex` of struct __sk_buff (linux/bpf.h).
        context[40..44].copy_from_slice(&self.index.to_ne_bytes());
        let mut out = vec![0; frame.len() + 256];
        let mut options = TestRunOptions::new();
        options.data_in = Some(&frame);
        options.data_out = Some(&mut out);
        options.ctx_in = Some(&context);
        let result = self.program.test_run(options).unwrap();
        out.truncate(result.data_size_out as usize);
        (result.return_value.cast_signed() == REDIRECT).then_some(out)
    }
}

/// The source port of a masqueraded packet.
pub(crate) fn port_of(frame: &[u8]) -> u16 {
    assert_eq!(frame[26..30], HOST_OUTSIDE);
    u16::from_be_bytes([frame[34], frame[35]])
}

/// A container with the hook of its packets.
struct Sender {
    address: [u8; 4],
    door: Door,
}

fn senders(lab: &Lab, count: usize) -> Vec<Sender> {
    let one = |number: usize| {
        let name = lab.container(&format!("c{number}"), &[]);
        let address: Ipv4Addr = lab.address(&name).parse().unwrap();
        Sender { address: address.octets(), door: Door::of_container(lab, &name) }
    };
    (0..count).map(one).collect()
}

/// Releases the other threads if a thread fails.
struct Failing<'a>(&'a AtomicUsize);

impl Drop for Failing<'_> {
    fn drop(&mut self) {
        self.0.store(usize::MAX / 2, Ordering::SeqCst);
    }
}

/// Does `work` on several threads in the host at once, each with its number; all start each round together.
fn at_once<T: Send>(lab: &Lab, rounds: u16, work: impl Fn(usize, u16) -> T + Sync) -> Vec<Vec<T>> {
    let arrived = AtomicUsize::new(0);
    let (arrived, work) = (&arrived, &work);
    lab.host.run(|| {
        thread::scope(|scope| {
            let one = |thread| {
                scope.spawn(move || {
                    let round = |round| {
                        // They spin, because a lock would wake them one after the other.
                        arrived.fetch_add(1, Ordering::SeqCst);
                        while arrived.load(Ordering::SeqCst) < THREADS * (usize::from(round) + 1) {
                            thread::yield_now();
                        }
                        // If a thread fails, the others must not wait for it.
                        let failing = Failing(arrived);
                        let done = work(thread, round);
                        std::mem::forget(failing);
                        done
                    };
                    (0..rounds).map(round).collect()
                })
            };
            let threads: Vec<_> = (0..THREADS).map(one).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    })
}

/// All containers use the same source ports to the same peer at the same time.
fn nobody_shares(make: Make) {
    const ROUNDS: u16 = 200;
    let lab = Lab::new();
    let senders = senders(&lab, THREADS);
    let back = Door::new(&lab, "uplink_ingress", "up1");
    let far = (FAR, 53);
    let ports = at_once(&lab, ROUNDS, |thread, round| {
        let Sender { address, door } = &senders[thread];
        port_of(&door.pass(&make((*address, 20_000 + round), far)).unwrap())
    });
    let handed_out: Vec<u16> = ports.iter().flatten().copied().collect();
    let distinct: BTreeSet<u16> = handed_out.iter().copied().collect();
    assert_eq!(distinct.len(), handed_out.len(), "one tuple was handed out twice");
    // Each reply reaches the container and the port that the request came from.
    for (Sender { address, .. }, ports) in senders.iter().zip(ports) {
        for (round, port) in (0..ROUNDS).zip(ports) {
            let answer = lab.host.run(|| back.pass(&make(far, (HOST_OUTSIDE, port)))).unwrap();
            let expected = Packet { ttl: 63, ..make(far, (*address, 20_000 + round)) }.bytes();
            assert_eq!(answer[14..], expected[14..], "an answer to {port}");
        }
    }
}

#[test]
fn four_threads_never_get_the_same_udp_tuple() {
    nobody_shares(Packet::udp);
}

#[test]
fn four_threads_never_get_the_same_tcp_tuple() {
    nobody_shares(|from, to| {
        let flags = if from.0 == FAR { "SA" } else { "S" };
        Packet::tcp(from, to, flags)
    });
}

#[test]
fn a_retransmitted_packet_gets_the_same_source_port() {
    const ROUNDS: u16 = 2000;
    let lab = Lab::new();
    let senders = senders(&lab, 2);
    let back = Door::new(&lab, "uplink_ingress", "up1");
    let (first, second) = (&senders[0], &senders[1]);
    // To one peer the source port is free; to the other one it is taken, so another one must be chosen.
    for (peer, is_taken) in [(53, false), (54, true)] {
        let far = (FAR, peer);
        if is_taken {
            lab.host.run(|| {
                for round in 0..ROUNDS {
                    let packet = Packet::udp((first.address, 20_000 + round), far);
                    assert_eq!(port_of(&first.door.pass(&packet).unwrap()), 20_000 + round);
                }
            });
        }
        let ports = at_once(&lab, ROUNDS, |_thread, round| {
            let packet = Packet::udp((second.address, 20_000 + round), far);
            port_of(&second.door.pass(&packet).unwrap())
        });
        let mut distinct = BTreeSet::new();
        for round in 0..ROUNDS {
            let of_round: BTreeSet<u16> = ports.iter().map(|ports| ports[usize::from(round)]).collect();
            assert_eq!(of_round.len(), 1, "copies of one packet left by {of_round:?}");
            let port = of_round.into_iter().next().unwrap();
            assert_eq!(port != 20_000 + round, is_taken);
            assert!(distinct.insert(port));
            let answer = lab.host.run(|| back.pass(&Packet::udp(far, (HOST_OUTSIDE, port)))).unwrap();
            let expected = Packet { ttl: 63, ..Packet::udp(far, (second.address, 20_000 + round)) }.bytes();
            assert_eq!(answer[14..], expected[14..], "an answer to {port}");
        }
    }
}

#[test]
fn ports_of_host_sockets_are_not_allocated_and_published_ones_last() {
    /// The first port that is not published.
    const FREE: u16 = 64_512;
    const FLOWS: u16 = 1500;
    let lab = Lab::new();
    lab.container("web", &["-p", &format!("1024-{0}:1024-{0}/udp", FREE - 1)]);
    let senders = senders(&lab, 1);
    let Sender { address, door } = &senders[0];
    let is_sockets = |port: u16| port.is_multiple_of(4);
    let _sockets: Vec<UdpSocket> = lab.host.run(|| {
        let connected = |port| {
            let socket = UdpSocket::bind((Ipv4Addr::from(HOST_OUTSIDE), port)).unwrap();
            socket.connect((Ipv4Addr::from(FAR), 53)).unwrap();
            socket
        };
        (FREE..=u16::MAX).filter(|port| is_sockets(*port)).map(connected).collect()
    });
    // Each connection has a port as its source that is published for another container, so another one is looked for. Few are
    // free, so many connections get a published one in the end.
    let handed_out = |peer| -> BTreeMap<u16, u16> {
        lab.host.run(|| {
            (2000..2000 + FLOWS)
                .filter_map(|port| {
                    let frame = door.pass(&Packet::udp((*address, port), (FAR, peer)))?;
                    Some((port_of(&frame), port))
                })
                .collect()
        })
    };
    let towards_the_sockets_peer = handed_out(53);
    let is_unpublished = |port: &&u16| **port >= FREE;
    let unpublished: Vec<&u16> = towards_the_sockets_peer.keys().filter(is_unpublished).collect();
    // One try in 48 finds an unpublished port.
    assert!(unpublished.len() > usize::from(FLOWS) / 20, "{} of {FLOWS}", unpublished.len());
    assert!(!unpublished.into_iter().any(|port| is_sockets(*port)), "a socket's towards that peer");
    assert!(
        towards_the_sockets_peer.len() > usize::from(FLOWS) * 9 / 10,
        "{}",
        towards_the_sockets_peer.len()
    );
    // The sockets are connected, so they receive no packets of another peer.
    let towards_another = handed_out(54);
    let are_sockets = towards_another.keys().filter(is_unpublished).any(|port| is_sockets(*port));
    assert!(are_sockets, "they are in nobody's way");
    // A listening socket receives packets of any peer.
    let wish = (*address, FREE + 1);
    let _listener = lab.host.run(|| TcpListener::bind(("0.0.0.0", FREE + 1)).unwrap());
    let port = lab.host.run(|| port_of(&door.pass(&Packet::tcp(wish, (FAR, 80), "S")).unwrap()));
    assert_ne!(port, FREE + 1);
}
