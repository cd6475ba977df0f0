//! Connections of the host itself: to localhost and to the host's own addresses, by the socket hooks.

use std::io::{BufRead as _, BufReader, ErrorKind, Lines, Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};

use aya::maps::{HashMap, Map, MapData};
use netd_common::abi::{SocketKey, SocketRow, name};
use netd_tests::lab::{CLIENT, HOST, HOST_OUTSIDE, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_ask, udp_socket};
use netd_tests::wait_for;

#[test]
fn the_host_reaches_its_published_ports_by_localhost_and_by_its_addresses() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let _tcp = Server::tcp_echo(&sandbox(&web), 80);
    let _udp = Server::udp_echo(&sandbox(&web), 53);
    lab.host.run(|| {
        for host in ["127.0.0.1", "127.0.0.53", HOST, HOST_OUTSIDE] {
            assert!(tcp_first_line(&format!("{host}:8080"), PATIENCE).is_ok(), "{host}");
            let to = format!("{host}:5353");
            let (answer, from) = udp_ask(&udp_socket(PATIENCE), &to, b"x").unwrap();
            assert_eq!((answer.as_slice(), from.to_string()), (b"x".as_slice(), to));
        }
        // IPv6 sockets: ::1, and addresses in IPv4-mapped form, as programs with one socket for both use them.
        assert!(tcp_first_line("[::1]:8080", PATIENCE).is_ok());
        assert!(tcp_first_line("[::ffff:127.0.0.1]:8080", PATIENCE).is_ok());
        let socket = || {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        };
        let to = "[::ffff:127.0.0.1]:5353";
        assert_eq!(udp_ask(&socket(), to, b"x").unwrap().1.to_string(), to);
        let connected = socket();
        connected.connect("[::1]:5353").unwrap();
        connected.send(b"x").unwrap();
        let (_, from) = connected.recv_from(&mut [0; 16]).unwrap();
        assert_eq!(from.to_string(), "[::1]:5353");
    });
}

#[test]
fn a_host_program_sees_the_peer_that_it_asked_for() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let _tcp = Server::tcp_echo(&sandbox(&web), 80);
    let _udp = Server::udp_echo(&sandbox(&web), 53);
    lab.host.run(|| {
        let stream = TcpStream::connect("127.0.0.1:8080").unwrap();
        assert_eq!(stream.peer_addr().unwrap().to_string(), "127.0.0.1:8080");
        // A connected datagram socket, as resolvers use it.
        let socket = udp_socket(PATIENCE);
        socket.connect("127.0.0.1:5353").unwrap();
        assert_eq!(socket.peer_addr().unwrap().to_string(), "127.0.0.1:5353");
        socket.send(b"x").unwrap();
        let mut buffer = [0; 16];
        let (len, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!((len, from.to_string()), (1, "127.0.0.1:5353".to_owned()));
    });
}

#[test]
fn the_row_of_a_host_socket_is_deleted_with_it() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp"]);
    let _tcp = Server::tcp_echo(&sandbox(&web), 80);
    let _udp = Server::udp_echo(&sandbox(&web), 53);
    let pins = lab.netd(&["--json", "status"]).ok().json()["pins"].as_str().unwrap().to_owned();
    let rows = || {
        let map = Map::LruHashMap(MapData::from_pin(format!("{pins}/maps/{}", name::SOCKETS)).unwrap());
        let rows: HashMap<_, [u8; size_of::<SocketKey>()], [u8; size_of::<SocketRow>()]> =
            HashMap::try_from(map).unwrap();
        rows.keys().count()
    };
    lab.host.run(|| {
        let streams = ["127.0.0.1:8080", "[::1]:8080", "[::ffff:127.0.0.1]:8080"]
            .map(|to| TcpStream::connect(to).unwrap_or_else(|error| panic!("{to}: {error}")));
        let datagrams = udp_socket(PATIENCE);
        datagrams.connect("127.0.0.1:5353").unwrap();
        assert_eq!(rows(), 4);
        drop((streams, datagrams));
        // A process that another test forks holds copies of them until it calls exec.
        wait_for("the rows to go", PATIENCE, || rows() == 0);
    });
}

#[test]
fn connections_of_the_host_work_beside_a_containers_hairpin_connection() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let ask = |stream: &mut TcpStream, lines: &mut Lines<BufReader<TcpStream>>, what: &str| {
        stream.write_all(format!("{what}\n").as_bytes()).unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), what);
    };
    let connect = |to: &str| {
        let stream = TcpStream::connect(to).unwrap_or_else(|error| panic!("{to}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        let _address = lines.next().unwrap().unwrap();
        (stream, lines)
    };
    let (mut before, mut lines_before) = lab.host.run(|| connect("127.0.0.1:8080"));
    // From here on the gateway has flows, and the host's own packets are recognised by its sockets.
    let (mut hairpin, mut lines_hairpin) = lab.run_in(&web, || connect("172.17.0.1:8080"));
    let (mut after, mut lines_after) = lab.host.run(|| connect("127.0.0.1:8080"));
    for what in ["one", "two"] {
        ask(&mut before, &mut lines_before, what);
        ask(&mut hairpin, &mut lines_hairpin, what);
        ask(&mut after, &mut lines_after, what);
    }
}

#[test]
fn connections_of_the_host_end_with_their_container() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "-p", "5353:53/udp", "--ip", "172.17.0.9"]);
    let servers = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
    let ask = |socket: &UdpSocket| {
        socket.send(b"x")?;
        socket.recv(&mut [0; 16])
    };
    let (stream, datagrams, unconnected, other) = lab.host.run(|| {
        let mut stream = TcpStream::connect("127.0.0.1:8080").unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The greeting.
        assert_ne!(stream.read(&mut [0; 64]).unwrap(), 0);
        let datagrams =
            [("0.0.0.0:0", "127.0.0.1:5353"), ("[::]:0", "[::ffff:127.0.0.1]:5353")].map(|(from, to)| {
                let socket = UdpSocket::bind(from).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                socket.connect(to).unwrap();
                ask(&socket).unwrap();
                socket
            });
        let unconnected = udp_socket(PATIENCE);
        udp_ask(&unconnected, "127.0.0.1:5353", b"x").unwrap();
        // A socket that did not use a published port is not ended.
        let other = udp_socket(PATIENCE);
        other.connect("172.17.0.9:53").unwrap();
        ask(&other).unwrap();
        (stream, datagrams, unconnected, other)
    });
    lab.netd(&["container", "rm", &web]).ok();
    drop(servers);
    // Another container gets the address.
    let stranger = lab.container("stranger", &["--ip", "172.17.0.9"]);
    let _stranger = Server::udp_echo(&sandbox(&stranger), 53);
    let (mut stream, unconnected) = (stream, unconnected);
    let ended = stream.read_to_end(&mut Vec::new()).unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionAborted);
    for socket in &datagrams {
        // The first call says why, those after it that there is no peer.
        assert!(
            [ErrorKind::ConnectionAborted, ErrorKind::NotConnected]
                .contains(&socket.recv(&mut [0; 16]).unwrap_err().kind())
        );
        socket.send(b"x").unwrap_err();
    }
    ask(&other).unwrap();
    let green = lab.container("green", &["-p", "5353:53/udp"]);
    let _green = Server::udp_echo(&sandbox(&green), 53);
    lab.host.run(|| udp_ask(&unconnected, "127.0.0.1:5353", b"x").unwrap());
}

#[test]
fn a_published_address_is_served_while_the_host_has_it() {
    let lab = Lab::new();
    // A failover address that the host does not have yet.
    let vip = "198.18.0.50";
    let web = lab.container("web", &[]);
    let _web = Server::tcp_echo(&sandbox(&web), 80);
    lab.netd(&["publish", &format!("{vip}:8080:80"), &web]).fails(1, "is not an address of this host");
    lab.host.sh("sysctl -qw net.ipv4.ip_nonlocal_bind=1");
    lab.netd(&["publish", &format!("{vip}:8080:80"), &web]).ok();
    let ask = || tcp_first_line(&format!("{vip}:8080"), PATIENCE);
    lab.host.ip(&format!("address add {vip}/24 dev up0"));
    lab.netd(&["sync"]).ok();
    assert_eq!(lab.client.run(ask).unwrap(), CLIENT);
    assert!(lab.host.run(ask).is_ok());
    // It moves to another machine: the host and its containers reach it there.
    lab.host.ip(&format!("address del {vip}/24 dev up0"));
    lab.client.ip(&format!("address add {vip}/24 dev eth0"));
    lab.netd(&["sync"]).ok();
    let _other = Server::tcp(&lab.client.path(), 8080, |mut stream, _| {
        let _told = stream.write_all(b"other\n");
    });
    assert_eq!(lab.host.run(ask).unwrap(), "other");
    assert_eq!(lab.run_in(&web, ask).unwrap(), "other");
}

#[test]
fn addresses_that_are_local_by_a_route_are_published() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8082:80"]);
    let _web = Server::tcp_echo(&sandbox(&web), 80);
    lab.host.ip("route add local 192.0.2.0/24 dev lo");
    lab.client.ip(&format!("route add 192.0.2.0/24 via {HOST}"));
    lab.netd(&["publish", "192.0.2.7:8081:80", &web]).ok();
    for to in ["192.0.2.7:8081", "192.0.2.9:8082"] {
        assert_eq!(lab.client.run(|| tcp_first_line(to, PATIENCE)).unwrap(), CLIENT, "{to}");
        assert!(lab.host.run(|| tcp_first_line(to, PATIENCE)).is_ok(), "{to}");
    }
}

#[test]
fn curl_reaches_localhost_in_every_spelling() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp(&sandbox(&web), 80, |mut stream, _| {
        let mut request = [0; 1024];
        let _asked = std::io::Read::read(&mut stream, &mut request);
        let _told = std::io::Write::write_all(
            &mut stream,
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello",
        );
    });
    for host in ["localhost", "127.0.0.1", "[::1]", HOST] {
        assert_eq!(lab.host.sh(&format!("curl -sS -m 20 'http://{host}:8080/'")), "hello", "{host}");
    }
}

#[test]
fn other_namespaces_localhost_is_left_alone() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let other = lab.container("other", &[]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    // A container's 127.0.0.1 is its own, also in the container that the port leads to.
    for container in [&other, &web] {
        let refused = lab.run_in(container, || tcp_first_line("127.0.0.1:8080", SILENCE));
        assert!(refused.is_err(), "{container} was redirected");
    }
    assert!(lab.client.run(|| tcp_first_line("127.0.0.1:8080", SILENCE)).is_err());
    // In another namespace, a server on the same port is reached.
    let _theirs = Server::tcp(&lab.client.path(), 8080, |mut stream, _| {
        let _sent = std::io::Write::write_all(&mut stream, b"theirs\n");
    });
    assert_eq!(lab.client.run(|| tcp_first_line("127.0.0.1:8080", PATIENCE)).unwrap(), "theirs");
}

#[test]
fn a_destination_that_is_not_the_hosts_is_left_alone() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let _theirs = Server::tcp(&lab.outside.path(), 8080, |mut stream, _| {
        let _sent = std::io::Write::write_all(&mut stream, b"theirs\n");
    });
    let to = format!("{}:8080", netd_tests::lab::OUTSIDE);
    assert_eq!(lab.host.run(|| tcp_first_line(&to, PATIENCE)).unwrap(), "theirs");
}
