//! Odd packets: malformed ones, and those of no flow.

use std::ops::RangeInclusive;

use netd_tests::stimulus::{Body, Lie, Stimulus, Tuple};
use netd_tests::twins::{End, far, inside};

use super::dice::Dice;

/// The ports that the kernel gives to the host's sockets.
pub(super) const LOCAL_PORTS: RangeInclusive<u16> = 32768..=60999;

/// Sources that no reply can reach, or that a sender outside must not use.
const MARTIANS: [&str; 10] = [
    "127.0.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "240.0.0.1",
    "10.77.0.2",
    "10.77.0.1",
    "198.18.0.1",
    "198.18.0.255",
    "0.1.2.3",
];

/// The same in IPv6.
const MARTIANS6: [&str; 8] =
    ["::1", "::", "ff02::1", "fd77::2", "fd77::1", "2001:db8:18::1", "::ffff:198.18.0.9", "fe80::99"];

/// IPv4 options (RFC 791 §3.1), each filled up to words.
const OPTIONS: [&[u8]; 10] = [
    &[1, 1, 1, 0],
    // Record route: with free space, and full.
    &[7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    &[7, 7, 8, 9, 9, 9, 9, 0],
    // Timestamp.
    &[68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    // Router alert.
    &[148, 4, 0, 0],
    // Loose and strict source route.
    &[131, 7, 4, 198, 18, 0, 9, 0],
    &[137, 7, 4, 198, 18, 0, 9, 0],
    // Unknown.
    &[0x9e, 4, 1, 2],
    // Longer than the header.
    &[7, 40, 4, 0],
    &[
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        1, 1, 1, 1, 1, 1,
    ],
];

/// IPv6 extension headers (RFC 8200 §4): the bytes after next header and length.
const EXTENSIONS: [&[(u8, &[u8])]; 9] = [
    &[(0, &[1, 4, 0, 0, 0, 0])],
    &[(60, &[1, 4, 0, 0, 0, 0])],
    &[(0, &[1, 4, 0, 0, 0, 0]), (60, &[1, 4, 0, 0, 0, 0])],
    // Router alert.
    &[(0, &[5, 2, 0, 0, 1, 0])],
    // Unknown options: one that says "skip", one that says "drop".
    &[(0, &[0x1e, 4, 0, 0, 0, 0])],
    &[(0, &[0x5e, 4, 0, 0, 0, 0])],
    // An experimental routing header with no segments left.
    &[(43, &[253, 0, 0, 0, 0, 0])],
    &[(60, &[1, 4, 0, 0, 0, 0]), (60, &[1, 4, 0, 0, 0, 0]), (60, &[1, 4, 0, 0, 0, 0])],
    &[(
        60,
        &[
            1, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    )],
];

/// Makes a packet odd; returns a description.
pub(super) fn spoil(dice: &mut Dice, stimulus: &mut Stimulus, from: &Tuple, to: &Tuple) -> &'static str {
    let v6 = to.src.is_ipv6();
    let len = stimulus.transport(to).len();
    let is_tcp = matches!(stimulus.body, Body::Tcp { .. });
    let is_udp = stimulus.body == Body::Udp;
    match dice.u8(0..14) {
        0 => {
            // Few of them, since netd limits its ICMP errors.
            stimulus.ttl = if dice.chance(25) { dice.u8(0..2) } else { 2 };
            "ttl"
        }
        1 if v6 => {
            let known = dice.pick(&EXTENSIONS);
            stimulus.extensions = known.iter().map(|(kind, rest)| (*kind, rest.to_vec())).collect();
            "extensions"
        }
        1 => {
            stimulus.options = dice.pick(&OPTIONS).to_vec();
            "options"
        }
        2 => {
            stimulus.lie = Lie::Checksum(dice.u16(1..0xffff));
            "checksum"
        }
        3 if is_udp => {
            stimulus.lie = Lie::NoChecksum;
            "no checksum"
        }
        4 if !v6 => {
            stimulus.lie = Lie::HeaderChecksum(dice.u16(1..0xffff));
            "header checksum"
        }
        5 => {
            let by = if dice.bool() { dice.i16(1..2000) } else { -dice.i16(1..80) };
            stimulus.lie = Lie::Length(by);
            "length"
        }
        6 => {
            stimulus.lie = Lie::Cut(dice.usize(0..=len.min(30)));
            "cut"
        }
        7 => {
            stimulus.lie = Lie::Padding(dice.usize(1..40));
            "padding"
        }
        8 if !v6 => {
            stimulus.lie = Lie::HeaderLength(dice.u8(0..16));
            "header length"
        }
        8 => {
            stimulus.lie = Lie::Version(dice.u8(0..16));
            "version"
        }
        9 if is_udp => {
            stimulus.lie = Lie::UdpLength(dice.pick(&[0, 7, 8, 9, 2000, 65_535]));
            "udp length"
        }
        9 if is_tcp => {
            stimulus.lie = Lie::TcpLength(dice.u8(0..16));
            "tcp length"
        }
        10 if is_udp => {
            stimulus.tune_to_zero(if dice.bool() { from } else { to });
            "checksum of all ones"
        }
        11 | 12 if is_tcp => {
            let Body::Tcp { flags, seq, ack, .. } = &mut stimulus.body else { unreachable!() };
            *flags = dice.u8(..);
            if dice.bool() {
                (*seq, *ack) = (dice.u32(..), dice.u32(..));
            }
            "flags"
        }
        11 | 12 => {
            cut(dice, stimulus, v6);
            "fragments"
        }
        _ => {
            let len = dice.usize(1000..1380);
            stimulus.payload = dice.bytes(len);
            "large"
        }
    }
}

/// Fragments a packet so that each fragment fits the link. Those of IPv6 have 1280 bytes, except the last one, as
/// conntrack requires.
fn cut(dice: &mut Dice, stimulus: &mut Stimulus, v6: bool) {
    let len = if v6 { dice.usize(1400..2700) } else { dice.usize(64..3000) };
    stimulus.payload = dice.bytes(len);
    stimulus.whole = false;
    let (parts, mut at) = (if v6 { 155..180 } else { 3..180 }, 0);
    loop {
        at += dice.usize(parts.clone()) * 8;
        if at >= len {
            return;
        }
        stimulus.cuts.push(at);
    }
}

/// Makes a packet of no flow; returns its description and content. By default it goes to an unpublished port of the
/// host.
pub(super) fn lose(dice: &mut Dice, end: End, tuple: &mut Tuple) -> (&'static str, Body) {
    let v6 = tuple.src.is_ipv6();
    let flags = dice.u8(..);
    let tcp = Body::Tcp { flags, seq: dice.u32(..), ack: dice.u32(..), options: Vec::new() };
    let mut body = if dice.bool() { tcp } else { Body::Udp };
    let what = match dice.u8(2..12) {
        2 => {
            // A reply without a request.
            tuple.dport = dice.u16(1..9000);
            body = Body::Echo { request: dice.bool(), seq: dice.u16(..) };
            "echo to the host"
        }
        3 if !end.is_container() => {
            tuple.dst = inside(v6, dice.u8(1..4));
            tuple.dport = 80;
            "direct access"
        }
        3 | 4 if end.is_container() => {
            // For a port that the host may come to use netd has another one, which nobody would learn here. The other
            // container has the port that it becomes instead, so each has a peer of its own.
            tuple.dst = far(v6, if end == End::First { 7 } else { 10 });
            if LOCAL_PORTS.contains(&tuple.sport) {
                tuple.sport -= 30_000;
            }
            "a container's loose end"
        }
        4 => {
            tuple.dport = dice.pick(&[8080, 5353, 8443, 9000, 30_003]);
            "a loose end"
        }
        5 if !end.is_container() => {
            tuple.src = dice.pick(if v6 { &MARTIANS6 } else { &MARTIANS }).parse().unwrap();
            tuple.dport = dice.pick(&[8080, 5353, 8443, 9000, 30_003]);
            "martian source"
        }
        5 => {
            tuple.src =
                if dice.bool() { far(v6, 9) } else { inside(v6, if end == End::First { 3 } else { 2 }) };
            tuple.dst = far(v6, 8);
            "spoofed source"
        }
        6 => {
            body = Body::Message { kind: if v6 { [1, 4] } else { [3, 3] }, rest: 0 };
            "error about nothing"
        }
        7 => {
            let kinds: &[u8] = if v6 { &[100, 127, 139, 150, 200] } else { &[9, 10, 15, 17, 30, 40] };
            body = Body::Message { kind: [dice.pick(kinds), 0], rest: dice.u32(..) };
            if end.is_container() {
                tuple.dst = far(v6, 6);
            }
            "a query"
        }
        8 => {
            body = Body::Other(dice.pick(&[4, 41, 50, 89, 103, 253]));
            "another protocol"
        }
        9 if !end.is_container() => {
            tuple.dst = far(v6, 5);
            "in transit"
        }
        _ => "unpublished",
    };
    (what, body)
}
