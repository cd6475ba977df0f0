//! Long connections survive changes of other containers, floods, and the loss of their rows.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::maps::{HashMap, Map, MapData};
use netd_common::abi::{FlowRow, capacity, name};
use netd_common::flow::FlowKey;
use netd_common::wire::bytes::{Address, Ipv4, Ipv6};
use netd_tests::lab::{CLIENT, CLIENT6, HOST, HOST6, Lab, OUTSIDE, OUTSIDE6};
use netd_tests::netns::{run_in, sandbox};
use netd_tests::packet::{Packet, icmp_error};
use netd_tests::probe::{PATIENCE, Server, tcp_first_line, tcp_on, udp_answers, udp_ask};
use netd_tests::stream::block;
use netd_tests::{nginx, tap, wait_for};
use nix::sys::socket::{AddressFamily, MsgFlags, SockaddrIn, sendto, setsockopt, sockopt};

/// A lab with a network `six` of both families.
fn lab() -> Lab {
    let lab = Lab::new();
    lab.netd(&["network", "create", "six", "--subnet", "10.6.0.0/24", "--subnet", "fd00:6::/64"]).ok();
    lab
}

fn container(lab: &Lab, label: &str, options: &[&str]) -> String {
    lab.container(label, &[&["--network", "six"], options].concat())
}

fn address(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// An established connection to a [`Server::tcp_echo`].
struct Echo {
    stream: TcpStream,
    count: u64,
}

impl Echo {
    /// Connects from the namespace at `from`.
    fn new(from: &Path, to: SocketAddr) -> Self {
        let mut stream = run_in(from, || TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // The server's first line is the address that it sees.
        let mut byte = [0];
        while byte != *b"\n" {
            stream.read_exact(&mut byte).unwrap();
        }
        Self { stream, count: 0 }
    }

    /// Sends a new number, and fails unless it comes back.
    #[track_caller]
    fn exchange(&mut self) {
        self.count += 1;
        self.stream.write_all(&self.count.to_ne_bytes()).unwrap();
        let mut answer = [0; 8];
        self.stream.read_exact(&mut answer).unwrap_or_else(|error| panic!("{:?}: {error}", self.stream));
        assert_eq!(u64::from_ne_bytes(answer), self.count);
    }
}

#[test]
fn connections_survive_while_a_hundred_containers_come_and_go() {
    let lab = lab();
    let web = container(&lab, "web", &["-p", "8080:80", "-p", "8081:81"]);
    let folder = lab.folder.path();
    std::fs::create_dir(folder.join("put")).unwrap();
    let words = "listen 80 http2; listen [::]:80 http2; client_max_body_size 0; dav_methods PUT; \
                 dav_access all:rw;";
    let _nginx = nginx::start(&lab, &web, folder, words);
    let _inside = Server::tcp_echo(&sandbox(&web), 81);
    let _outside = Server::tcp_echo(&lab.outside.path(), 82);
    wait_for("nginx to serve", PATIENCE, || lab.client.run(|| TcpStream::connect((HOST, 8080))).is_ok());
    let total = || lab.port("tcp", 8080)["flows"]["total"].as_u64().unwrap();
    let before = total();
    // One HTTP/2 connection for each family, kept open by a single PUT as long as its body lasts.
    let mut puts = [(HOST.to_owned(), "four"), (format!("[{HOST6}]"), "six")].map(|(host, file)| {
        let mut curl = lab.client.command("curl");
        curl.args(["-sS", "--http2-prior-knowledge", "-T", "-", "-w", "%{http_version} %{http_code}"]);
        curl.arg(format!("http://{host}:8080/put/{file}")).stdin(Stdio::piped()).stdout(Stdio::piped());
        (curl.spawn().unwrap(), file)
    });
    let (client, host, inside) = (lab.client.path(), lab.host.path(), sandbox(&web));
    let mut echoes = [
        (&client, HOST, 8081),
        (&client, HOST6, 8081),
        (&host, "127.0.0.1", 8081),
        (&host, "::1", 8081),
        (&inside, HOST, 8081),
        (&inside, HOST6, 8081),
        (&inside, OUTSIDE, 82),
        (&inside, OUTSIDE6, 82),
    ]
    .map(|(from, to, port)| Echo::new(from, address(to, port)));
    let block = block();
    let parts: Vec<&[u8]> = block.chunks(block.len() / 100).collect();
    for (number, part) in parts.iter().enumerate() {
        let [tcp, udp] = ["80", "53/udp"].map(|inside| format!("{}:{inside}", 9000 + number));
        let visitor = container(&lab, &format!("visitor{number}"), &["-p", &tcp, "-p", &udp]);
        for (curl, _) in &mut puts {
            curl.stdin.as_mut().unwrap().write_all(part).unwrap();
        }
        echoes.iter_mut().for_each(Echo::exchange);
        lab.netd(&["container", "rm", &visitor]).ok();
        echoes.iter_mut().for_each(Echo::exchange);
    }
    assert!(parts.len() >= 100);
    for (mut curl, file) in puts {
        drop(curl.stdin.take());
        let said = curl.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), "2 201", "{file}");
        assert!(
            std::fs::read(folder.join("put").join(file)).unwrap() == block,
            "{file} is not what was sent"
        );
    }
    assert_eq!(total(), before + 2, "each was one connection all along");
}

/// A number that ends the server of [`reuse`].
const LAST: u64 = u64::MAX;

/// Makes connections from only 200 source ports and closes them in different ways. Each must succeed and carry its own
/// number.
fn reuse(from: &Path, to: SocketAddr, server: &Path, count: u64) {
    let listener = run_in(server, || tcp_on(80));
    let serve = |mut stream: TcpStream| {
        let mut number = [0; 8];
        stream.read_exact(&mut number)?;
        stream.write_all(&number)?;
        // The server closes every third one first.
        let number = u64::from_ne_bytes(number);
        if number % 3 != 0 && number != LAST {
            let _reset = stream.read(&mut [0])?;
        }
        std::io::Result::Ok(number)
    };
    let ask = |number: u64| {
        let mut stream = TcpStream::connect(to)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(&number.to_ne_bytes())?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer)?;
        assert_eq!(u64::from_ne_bytes(answer), number, "another connection's answer");
        if number % 3 == 1 {
            let reset = nix::libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&stream, sockopt::Linger, &reset)?;
        } else {
            stream.shutdown(std::net::Shutdown::Write)?;
            assert_eq!(stream.read(&mut [0])?, 0);
        }
        std::io::Result::Ok(())
    };
    std::thread::scope(|scope| {
        let serving = scope.spawn(|| {
            let numbers = listener.incoming().filter_map(|stream| serve(stream.unwrap()).ok());
            numbers.take_while(|number| *number != LAST).count()
        });
        let failed: u64 = std::thread::scope(|scope| {
            let half = |first: u64| {
                move || {
                    run_in(from, || (first..count).step_by(2).filter(|number| ask(*number).is_err()).count())
                }
            };
            let halves = [0, 1].map(|first| scope.spawn(half(first)));
            halves.into_iter().map(|half| half.join().unwrap() as u64).sum()
        });
        run_in(server, || {
            let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, 80)).unwrap();
            stream.write_all(&LAST.to_ne_bytes()).unwrap();
            stream.read_exact(&mut [0; 8]).unwrap();
        });
        serving.join().unwrap();
        assert_eq!(failed, 0, "of {count} to {to}");
    });
}

#[test]
fn a_tuple_can_be_reused_after_its_connection_is_closed() {
    let lab = lab();
    let web = container(&lab, "web", &["-p", "8080:80"]);
    let few_ports = "sysctl -qw net.ipv4.ip_local_port_range='40000 40199' net.ipv4.tcp_max_tw_buckets=0";
    let (client, inside, outside) = (lab.client.path(), sandbox(&web), lab.outside.path());
    lab.client.sh(few_ports);
    reuse(&client, address(HOST, 8080), &inside, 60_000);
    // Each was distinguished from the previous one on the same tuple.
    assert_eq!(lab.port("tcp", 8080)["flows"]["total"], 60_000);
    reuse(&client, address(HOST6, 8080), &inside, 20_000);
    assert_eq!(lab.port("tcp", 8080)["flows"]["total"], 80_000);
    assert!(lab.command_in(&web, few_ports).status().unwrap().success());
    for far in [OUTSIDE, OUTSIDE6] {
        reuse(&inside, address(far, 80), &outside, 20_000);
    }
    let drops = drops(&lab);
    assert!(drops.is_empty(), "{drops:?}");
}

/// The reasons for which packets were dropped.
fn drops(lab: &Lab) -> Vec<String> {
    let status = lab.netd(&["--json", "status"]).ok().json();
    let drops = status["drops"].as_array().unwrap().iter().filter(|drop| drop["packets"] != 0);
    drops.map(|drop| drop["reason"].as_str().unwrap().to_owned()).collect()
}

/// Sends IPv4 packets from a namespace, with any source address.
struct Raw(std::os::fd::OwnedFd);

impl Raw {
    fn new(netns: &Path) -> Self {
        Self(run_in(netns, || tap::raw(AddressFamily::Inet)))
    }

    /// Sends a frame without its Ethernet header.
    fn send(&self, frame: &[u8]) {
        let to = SockaddrIn::new(frame[30], frame[31], frame[32], frame[33], 0);
        // If the queue is full, the flood has one packet less.
        let _refused = sendto(self.0.as_raw_fd(), &frame[14..], &to, MsgFlags::empty());
    }
}

const HOST4: [u8; 4] = [198, 18, 0, 1];

/// A client with an address that does not exist; a new one for each call.
fn stranger(number: u32) -> ([u8; 4], u16) {
    let [_, a, b, c] = number.to_be_bytes();
    ([100, 64 | (a & 0x3f), b, c], 1024 + u16::from(c))
}

#[test]
fn a_full_table_evicts_the_oldest_flows_and_accepts_new_ones() {
    const CLIENTS: u32 = 2 * capacity::UNREPLIED.connections;
    let lab = lab();
    let web = container(&lab, "web", &["-p", "8080:80"]);
    // Replies reach nobody.
    let _silent = lab.command_in(&web, "ip route add blackhole 100.64.0.0/10").status().unwrap();
    let raw = Raw::new(&lab.client.path());
    let knock = |number| raw.send(&Packet::tcp(stranger(number), (HOST4, 8080), "S").bytes());
    let is_known = |number| {
        let (address, port) = stranger(number);
        let flows = lab.netd(&["--json", "flows"]).ok().json();
        assert!(
            flows.as_array().unwrap().len() <= capacity::UNREPLIED.connections as usize,
            "no more than its room"
        );
        let address = Ipv4Addr::from(address).to_string();
        let is_it = |flow: &serde_json::Value| {
            flow["original"]["src"] == address.as_str() && flow["original"]["src_port"] == port
        };
        flows.as_array().unwrap().iter().any(is_it)
    };
    knock(0);
    wait_for("the first", PATIENCE, || is_known(0));
    (1..CLIENTS).for_each(knock);
    wait_for("the last", PATIENCE, || is_known(CLIENTS - 1));
    assert!(!is_known(0), "the oldest");
    knock(0);
    wait_for("the first once more", PATIENCE, || is_known(0));
    // Each was accepted and counted; the table was full, but nothing was dropped for that reason.
    assert_eq!(lab.port("tcp", 8080)["flows"]["total"], CLIENTS + 1);
    let drops = drops(&lab);
    assert!(drops.is_empty(), "{drops:?}");
}

/// The packets of a flood: SYNs to a published port, datagrams to all ports, and ICMP errors, half of them about an
/// existing connection.
fn flood(raw: &Raw, connection: ([u8; 4], u16), stop: &AtomicBool) -> u32 {
    let theirs = Packet::tcp((HOST4, 8081), connection, "A").bytes()[14..].to_vec();
    let nobodys = Packet::udp((HOST4, 9), ([203, 0, 113, 1], 53)).bytes()[14..].to_vec();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let from = stranger(number);
        let port = u16::try_from((number / 3) & 0xffff).unwrap();
        raw.send(&match number % 6 {
            0 | 3 => Packet::tcp(from, (HOST4, 8080), "S").bytes(),
            1 | 4 => Packet::udp(from, (HOST4, port)).bytes(),
            2 => icmp_error(from.0, HOST4, 64, [3, 1], 0, &theirs),
            _ => icmp_error(from.0, HOST4, 64, [3, 3], 0, &nobodys),
        });
        number += 1;
    }
    number
}

#[test]
fn established_connections_survive_a_minute_of_floods() {
    let lab = lab();
    let ports = ["-p", "8080:80", "-p", "8081:81", "-p", "8082:81", "-p", "5353:53/udp"];
    let web = container(&lab, "web", &ports);
    let folder = lab.folder.path();
    let file = block().repeat(40);
    std::fs::write(folder.join("file"), &file).unwrap();
    let _nginx = nginx::start(&lab, &web, folder, "listen 80;");
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 81), Server::udp_echo(&sandbox(&web), 53));
    let _outside = Server::tcp_echo(&lab.outside.path(), 82);
    wait_for("nginx to serve", PATIENCE, || lab.client.run(|| TcpStream::connect((HOST, 8080))).is_ok());
    let (client, host, inside) = (lab.client.path(), lab.host.path(), sandbox(&web));
    let mut echoes = [
        (&client, HOST, 8081),
        (&client, HOST6, 8081),
        (&host, "127.0.0.1", 8082),
        (&inside, OUTSIDE, 82),
        (&inside, OUTSIDE6, 82),
    ]
    .map(|(from, to, port)| Echo::new(from, address(to, port)));
    let port = echoes[0].stream.local_addr().unwrap().port();
    let sockets = [(CLIENT, HOST), (CLIENT6, HOST6)].map(|(own, host)| {
        let socket = lab.client.run(|| UdpSocket::bind(address(own, 0))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (socket, address(host, 5353).to_string())
    });
    // This transfer takes a minute and determines when the test ends.
    let line =
        format!("curl -sS -m 300 --limit-rate 700K -o {}/got http://{HOST}:8080/file", folder.display());
    let raw = Raw::new(&client);
    let (stop, mut asked, mut lost, mut opened) = (AtomicBool::new(false), 0_u32, 0, 0);
    let sent = std::thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&raw, ([198, 18, 0, 2], port), &stop));
        let downloading = scope.spawn(|| lab.client.try_sh(&line).status.success());
        while !downloading.is_finished() {
            echoes.iter_mut().for_each(Echo::exchange);
            for (socket, to) in &sockets {
                asked += 1;
                let answered = udp_ask(socket, to, &asked.to_ne_bytes());
                lost += u32::from(!answered.is_ok_and(|(bytes, _)| bytes == asked.to_ne_bytes()));
            }
            let new = lab.client.run(|| tcp_first_line(&format!("{HOST}:8082"), PATIENCE));
            assert_eq!(new.unwrap(), CLIENT, "a new connection");
            opened += 1;
        }
        stop.store(true, Ordering::Relaxed);
        assert!(downloading.join().unwrap(), "the download broke");
        flooding.join().unwrap()
    });
    println!("{sent} packets of flood, {} exchanges, {lost} of {asked} datagrams lost", echoes[0].count);
    assert!(std::fs::read(folder.join("got")).unwrap() == file, "the download differs");
    // A queue of the kernel may overflow, so a few datagrams may be lost. Without the flood none is lost.
    assert!(lost <= asked / 1000, "{lost} of {asked} datagrams");
    let total = |port| lab.port("tcp", port)["flows"]["total"].as_u64().unwrap();
    assert!(total(8080) > u64::from(capacity::UNREPLIED.connections), "{} clients are no flood", total(8080));
    assert_eq!((total(8081), total(8082)), (2, 1 + opened), "connections that were made anew");
    for reason in drops(&lab) {
        assert!(!["table_full", "collision", "no_route"].contains(&reason.as_str()), "{reason}");
    }
}

/// A published connection, with both ends.
struct Ends {
    client: TcpStream,
    server: TcpStream,
}

impl Ends {
    fn new(lab: &Lab, web: &str, to: SocketAddr) -> Self {
        let listener = run_in(&sandbox(web), || tcp_on(80));
        let client = lab.client.run(|| TcpStream::connect_timeout(&to, PATIENCE)).unwrap();
        let (server, _) = listener.accept().unwrap();
        for end in [&client, &server] {
            end.set_read_timeout(Some(PATIENCE)).unwrap();
        }
        Self { client, server }
    }

    /// Sends data in both directions, the client's or the server's first.
    #[track_caller]
    fn exchange(&self, client_first: bool) {
        let mut ends = [&self.client, &self.server];
        if !client_first {
            ends.reverse();
        }
        for [mut from, mut to] in [ends, [ends[1], ends[0]]] {
            from.write_all(b"a part of it").unwrap();
            let mut got = [0; 12];
            to.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"a part of it");
        }
    }
}

/// Deletes the rows whose source `which` selects, like an eviction; returns how many.
fn forget<A: Address, const KEY: usize, const ROW: usize>(
    pins: &Path,
    tables: [&str; 2],
    which: impl Fn(IpAddr) -> bool,
) -> usize {
    assert_eq!((KEY, ROW), (size_of::<FlowKey<A>>(), size_of::<FlowRow<A>>()));
    let mut forgotten = 0;
    for table in tables {
        let map = Map::HashMap(MapData::from_pin(pins.join("maps").join(table)).unwrap());
        let mut rows: HashMap<_, [u8; KEY], [u8; ROW]> = HashMap::try_from(map).unwrap();
        let keys: Vec<_> = rows.keys().map(Result::unwrap).collect();
        for key in keys {
            // The source is a key's first field.
            let source: A = bytemuck::pod_read_unaligned(&key[..size_of::<A>()]);
            if which(source.to_ip()) {
                rows.remove(&key).unwrap();
                forgotten += 1;
            }
        }
    }
    forgotten
}

#[test]
fn a_published_connection_survives_the_loss_of_its_rows() {
    let lab = lab();
    let web = container(&lab, "web", &["-p", "8080:80"]);
    let pins: PathBuf = lab.netd(&["--json", "status"]).ok().json()["pins"].as_str().unwrap().into();
    let clients: [IpAddr; 2] = [CLIENT, CLIENT6].map(|address| address.parse().unwrap());
    for host in [HOST, HOST6] {
        let ends = Ends::new(&lab, &web, address(host, 8080));
        ends.exchange(true);
        for client_first in [true, false] {
            // Both rows, only the one of the client's packets, only the one of the replies.
            for (lose_original, lose_reply) in [(true, true), (true, false), (false, true)] {
                let which = |source| if clients.contains(&source) { lose_original } else { lose_reply };
                let lost = if host == HOST {
                    forget::<Ipv4, { size_of::<FlowKey<Ipv4>>() }, { size_of::<FlowRow<Ipv4>>() }>(
                        &pins,
                        [name::FLOWS, name::UNREPLIED],
                        which,
                    )
                } else {
                    forget::<Ipv6, { size_of::<FlowKey<Ipv6>>() }, { size_of::<FlowRow<Ipv6>>() }>(
                        &pins,
                        [name::FLOWS6, name::UNREPLIED6],
                        which,
                    )
                };
                let expected = usize::from(lose_original) + usize::from(lose_reply);
                assert!(lost >= expected, "{lost} rows");
                ends.exchange(client_first);
            }
        }
    }
}

/// How many TCP and UDP packets a container's stack has received, with or without a listener.
fn delivered(lab: &Lab, container: &str) -> u64 {
    let read = "cat /proc/net/snmp /proc/net/snmp6";
    let output = lab.command_in(container, read).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let rows: Vec<&str> =
        text.lines().filter(|line| line.starts_with("Tcp:") || line.starts_with("Udp:")).collect();
    let column = |pair: &[&str], name: &str| -> u64 {
        let place = pair[0].split(' ').position(|word| word == name).unwrap();
        pair[1].split(' ').nth(place).unwrap().parse().unwrap()
    };
    // /proc/net/snmp counts TCP of both families, and UDP of IPv4.
    let six =
        text.lines().filter(|line| line.starts_with("Udp6InDatagrams") || line.starts_with("Udp6NoPorts"));
    let six: u64 = six.map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()).sum();
    column(&rows[..2], "InSegs") + column(&rows[2..4], "InDatagrams") + column(&rows[2..4], "NoPorts") + six
}

#[test]
fn an_unpublished_flow_is_cut_and_never_reaches_the_next_container() {
    let lab = lab();
    for removal in [true, false] {
        let ports = ["-p", "8080:80", "-p", "5353:53/udp", "--ip", "10.6.0.9", "--ip", "fd00:6::9"];
        let web = container(&lab, "web", &ports);
        let udp = Server::udp_echo(&sandbox(&web), 53);
        let mut ends = Vec::new();
        for (own, host) in [(CLIENT, HOST), (CLIENT6, HOST6)] {
            let tcp = Ends::new(&lab, &web, address(host, 8080));
            tcp.exchange(true);
            let socket = lab.client.run(|| UdpSocket::bind(address(own, 0))).unwrap();
            let to = address(host, 5353).to_string();
            udp_answers(&socket, &to, true);
            ends.push((tcp, socket, to));
        }
        if removal {
            drop(udp);
            lab.netd(&["container", "rm", &web]).ok();
            container(&lab, "web", &["--ip", "10.6.0.9", "--ip", "fd00:6::9"]);
        } else {
            lab.netd(&["unpublish", "8080"]).ok();
            lab.netd(&["unpublish", "5353/udp"]).ok();
        }
        let before = delivered(&lab, &web);
        for (tcp, socket, to) in &ends {
            // The kernel accepts the data; if it were delivered, a reply would come.
            (&tcp.client).write_all(b"too late").unwrap();
            udp_answers(socket, to, false);
        }
        assert_eq!(
            delivered(&lab, &web),
            before,
            "a stale flow led to {}",
            if removal { "another" } else { "it" }
        );
        assert!(lab.netd(&["--json", "flows"]).ok().json().as_array().unwrap().is_empty());
        lab.netd(&["container", "rm", &web]).ok();
    }
}
