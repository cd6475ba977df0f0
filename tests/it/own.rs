//! The host's own connections stay its own, whatever is published and whatever containers send.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::Stdio;

use netd_tests::lab::{HOST, HOST_OUTSIDE, Lab, OUTSIDE, OUTSIDE6};
use netd_tests::netns::sandbox;
use netd_tests::packet::Packet;
use netd_tests::probe::{
    PATIENCE, SILENCE, Server, tcp_first_line, udp_answers, udp_ask, udp_on, udp_socket, when_free,
};
use netd_tests::wait_for;

use crate::testbed::{self, Bench, FAR, NEXT, REDIRECT, SHOT, WEB};

/// Lets the kernel give these ports to sockets of the host, and no others.
fn give(lab: &Lab, range: &str) {
    lab.host.sh(&format!("sysctl -qw net.ipv4.ip_local_port_range='{range}'"));
}

/// Asks a server from a socket that is connected, and from one that is not.
fn ask_by_udp(to: &str) {
    let any = if to.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    for connects in [true, false] {
        let socket = UdpSocket::bind(any).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        if connects {
            socket.connect(to).unwrap();
            socket.send(b"question").unwrap();
        } else {
            socket.send_to(b"question", to).unwrap();
        }
        let (_len, from) = socket.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from.to_string(), to, "connected: {connects}");
    }
}

#[test]
fn answers_to_its_connections_from_published_ports_are_its_own() {
    let lab = Lab::new();
    let (_tcp, _udp) = (Server::tcp_echo(&lab.outside.path(), 80), Server::udp_echo(&lab.outside.path(), 53));
    give(&lab, "40000 40099");
    // One is there before its port is published.
    let before = lab.host.run(|| TcpStream::connect(format!("{OUTSIDE}:80")).unwrap());
    before.set_read_timeout(Some(PATIENCE)).unwrap();
    let ports = "40000-40099:40000-40099";
    // Those that may not use the ports may answer.
    let denied = ["--deny", OUTSIDE, "--deny", OUTSIDE6];
    let web = lab.container("web", &[&["-p", ports, "-p", &format!("{ports}/udp")], &denied[..]].concat());
    let (_web, _echo) = (Server::tcp_echo(&sandbox(&web), 40_007), Server::udp_echo(&sandbox(&web), 40_007));
    lab.host.run(|| {
        (&before).write_all(b"still there\n").unwrap();
        let mut lines = std::io::BufRead::lines(std::io::BufReader::new(&before));
        assert_eq!(lines.next().unwrap().unwrap(), HOST_OUTSIDE);
        assert_eq!(lines.next().unwrap().unwrap(), "still there");
        for peer in [OUTSIDE.to_owned(), format!("[{OUTSIDE6}]")] {
            for _time in 0..5 {
                assert!(tcp_first_line(&format!("{peer}:80"), PATIENCE).is_ok(), "{peer}");
                ask_by_udp(&format!("{peer}:53"));
            }
        }
    });
    // Everybody else who comes to these ports is the container's.
    lab.client.run(|| {
        assert!(tcp_first_line(&format!("{HOST}:40007"), PATIENCE).is_ok());
        udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:40007"), b"x").unwrap();
    });
}

#[test]
fn an_answer_that_came_too_late_costs_the_next_question_nothing() {
    let lab = Lab::new();
    give(&lab, "40000 40000");
    lab.container("web", &["-p", "40000:40000/udp"]);
    let flows = || lab.netd(&["--json", "flows", "--proto", "udp"]).ok().json().as_array().unwrap().len();
    // Nobody waits for it any more, so it looks like a client of the published port.
    let late = lab.outside.run(|| udp_on(53));
    late.send_to(b"late", format!("{HOST_OUTSIDE}:40000")).unwrap();
    wait_for("the flow to the container", PATIENCE, || flows() == 1);
    drop(late);
    let _server = Server::udp_echo(&lab.outside.path(), 53);
    lab.host.run(|| ask_by_udp(&format!("{OUTSIDE}:53")));
}

#[test]
fn a_container_that_answers_its_connection_is_no_client_of_a_published_port() {
    let lab = Lab::new();
    give(&lab, "40000 40099");
    let ports = "40000-40099:40000-40099";
    lab.container("web", &["-p", ports, "-p", &format!("{ports}/udp")]);
    let db = lab.container("db", &[]);
    let address = lab.address(&db);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&db), 80), Server::udp_echo(&sandbox(&db), 53));
    lab.host.run(|| {
        assert!(tcp_first_line(&format!("{address}:80"), PATIENCE).is_ok());
        ask_by_udp(&format!("{address}:53"));
    });
}

#[test]
fn its_pings_and_those_of_containers_are_told_apart() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    // One identifier for both.
    let ping = format!("ping -e 4242 -c 4 -i 0.2 -W 10 {OUTSIDE}");
    let inside = lab.command_in(&web, &ping).stdout(Stdio::piped()).spawn().unwrap();
    let outside = lab.host.command("sh").args(["-c", &ping]).stdout(Stdio::piped()).spawn().unwrap();
    for (who, child) in [("the container", inside), ("the host", outside)] {
        let said = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        assert!(said.contains("4 received") && !said.contains("duplicates"), "{who}: {said}");
    }
}

#[test]
fn without_ports_a_peer_is_whose_it_was_first() {
    let bench = Bench::new();
    let gre = |from, to| Packet::other(from, to, 47);
    let (theirs, ours) = (FAR, [203, 0, 113, 2]);
    // The host has a tunnel with one peer, a container with another.
    assert_eq!(bench.outside(&gre(theirs, testbed::HOST_OUTSIDE)).0, NEXT);
    assert_eq!(bench.container(&gre(WEB, ours)).0, REDIRECT);
    assert_eq!(bench.container(&gre(WEB, theirs)).0, SHOT);
    assert_eq!(bench.drops(), BTreeMap::from([("collision".to_owned(), 1)]));
    assert_eq!(bench.outside(&gre(theirs, testbed::HOST_OUTSIDE)).0, NEXT);
    let (verdict, out) = bench.outside(&gre(ours, testbed::HOST_OUTSIDE));
    assert_eq!(verdict, REDIRECT);
    assert_eq!(out[14..], Packet { ttl: 63, ..gre(ours, WEB) }.bytes()[14..]);
    // By another protocol, and in another name of the host's, the same peer is somebody else.
    assert_eq!(bench.container(&Packet::other(WEB, theirs, 50)).0, REDIRECT);
    assert_eq!(bench.outside(&gre(theirs, testbed::HOST)).0, NEXT);
}

/// Whether a program of the host may bind a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bind {
    Taken,
    Free,
}

impl Bind {
    fn tcp(address: &str) -> Self {
        Self::of(TcpListener::bind(address))
    }

    fn udp(address: &str) -> Self {
        Self::of(UdpSocket::bind(address))
    }

    fn of<T>(bound: std::io::Result<T>) -> Self {
        match bound {
            Ok(_) => Self::Free,
            Err(error) if error.kind() == ErrorKind::AddrInUse => Self::Taken,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_published_port_is_taken_for_its_programs() {
    let lab = Lab::new();
    let words =
        ["-p", "8080:80", "-p", "5353:53/udp", "-p", &format!("{HOST}:9000:90"), "-p", "7000-7009:7000-7009"];
    let web = lab.container("web", &words);
    let all: Vec<(&str, Bind)> = vec![
        ("0.0.0.0:8080", Bind::Taken),
        ("[::]:8080", Bind::Taken),
        ("127.0.0.1:8080", Bind::Taken),
        ("[::1]:8080", Bind::Taken),
        ("198.18.0.1:8080", Bind::Taken),
        ("0.0.0.0:7009", Bind::Taken),
        ("0.0.0.0:9000", Bind::Taken),
        ("[::]:9000", Bind::Taken),
        ("198.18.0.1:9000", Bind::Taken),
        ("127.0.0.1:9000", Bind::Free),
        ("198.19.0.1:9000", Bind::Free),
        ("0.0.0.0:8081", Bind::Free),
        ("0.0.0.0:5353", Bind::Free),
        ("0.0.0.0:0", Bind::Free),
        ("[::]:0", Bind::Free),
    ];
    lab.host.run(|| {
        for (address, expected) in &all {
            assert_eq!(Bind::tcp(address), *expected, "{address}");
        }
        assert_eq!(Bind::udp("0.0.0.0:5353"), Bind::Taken);
        assert_eq!(Bind::udp("0.0.0.0:8080"), Bind::Free);
        assert_eq!(Bind::udp("224.0.0.251:5353"), Bind::Free, "no publication has a group's packets");
    });
    // A container's own ports are no business of the host's.
    lab.run_in(&web, || assert_eq!(Bind::tcp("0.0.0.0:8080"), Bind::Free));
    lab.netd(&["unpublish", "8080"]).ok();
    lab.host.run(|| drop(when_free(|| TcpListener::bind("0.0.0.0:8080"))));
}

#[test]
fn a_masqueraded_port_is_never_published_or_used_by_a_host_socket() {
    let bench = Bench::new();
    let port = |frame: &[u8]| u16::from_be_bytes([frame[34], frame[35]]);
    let (verdict, out) = bench.container(&Packet::udp((WEB, 5353), (FAR, 53)));
    assert_eq!(verdict, REDIRECT);
    assert_ne!(port(&out), 5353, "published");
    let socket = bench.lab.host.run(|| UdpSocket::bind("0.0.0.0:21000").unwrap());
    let (verdict, out) = bench.container(&Packet::udp((WEB, 21_000), (FAR, 53)));
    assert_eq!(verdict, REDIRECT);
    assert_ne!(port(&out), 21_000, "a socket's");
    drop(socket);
    // A process that another test forks holds a copy of the socket until it calls exec.
    let mut to = 53;
    wait_for("the port to be nobody's", PATIENCE, || {
        to += 1;
        port(&bench.container(&Packet::udp((WEB, 21_000), (FAR, to))).1) == 21_000
    });
    // A socket that comes later takes nothing over, as long as the container's connection may be idle.
    let answer = Packet::udp((FAR, to), (testbed::HOST_OUTSIDE, 21_000));
    let socket = bench.lab.host.run(|| UdpSocket::bind("0.0.0.0:21000").unwrap());
    let (verdict, _) = bench.outside(&answer);
    assert_eq!(verdict, REDIRECT, "the answer is the container's");
    bench.forget_flows();
    assert_eq!(bench.outside(&answer).0, NEXT);
    let (_, out) = bench.container(&Packet::udp((WEB, 21_000), (FAR, to)));
    assert_ne!(port(&out), 21_000, "a socket's");
    drop(socket);
}

#[test]
fn late_answers_to_a_socket_that_has_closed_are_no_containers() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "30000-30009:30000-30009/udp"]);
    let _servers: Vec<Server> = (30_000..30_010).map(|port| Server::udp_echo(&sandbox(&web), port)).collect();
    // The kernel gives the host's sockets the ports that are published.
    lab.host.sh("sysctl -qw net.ipv4.ip_local_port_range='30000 30009'");
    let peer = lab.outside.run(|| UdpSocket::bind((OUTSIDE, 53)).unwrap());
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut question, mut answer) = ([0; 8], [0; 8]);
    let socket = lab.host.run(|| udp_socket(PATIENCE));
    socket.connect((OUTSIDE, 53)).unwrap();
    socket.send(b"question").unwrap();
    let (_len, host) = peer.recv_from(&mut question).unwrap();
    assert!((30_000..30_010).contains(&host.port()), "{host}");
    peer.send_to(b"answer", host).unwrap();
    assert_eq!(socket.recv(&mut answer).unwrap(), 6);
    drop(socket);
    // A process that another test forks holds a copy of the socket until it calls exec; it would take the answers, too.
    peer.set_read_timeout(Some(SILENCE)).unwrap();
    for _late in 0..3 {
        peer.send_to(b"late", host).unwrap();
        assert!(peer.recv_from(&mut question).is_err(), "the container has got it and answers");
    }
    // Others reach the container by this port.
    lab.outside.run(|| udp_answers(&udp_socket(PATIENCE), &host.to_string(), true));
}
