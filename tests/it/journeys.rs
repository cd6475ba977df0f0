//! Every kind of path (journey) in both families: a GiB each way, DNS queries, traceroute and ping.

use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use netd_tests::lab::{CLIENT, CLIENT6, HOST, HOST_OUTSIDE, HOST_OUTSIDE6, HOST6, Lab, OUTSIDE, OUTSIDE6};
use netd_tests::netns::{Process, run_in, sandbox};
use netd_tests::probe::{PATIENCE, Server, udp_ask, when_free};
use netd_tests::stream::{GIB, receive, send};
use netd_tests::wait_for;

/// The addresses of one family.
struct Family {
    localhost: &'static str,
    host: &'static str,
    host_outside: &'static str,
    client: &'static str,
    outside: &'static str,
    /// A machine behind the outside one.
    beyond: &'static str,
    gateway: &'static str,
    web: &'static str,
    near: &'static str,
    /// Where the network of `far` has its gateway.
    far_gateway: &'static str,
}

const IPV4: Family = Family {
    localhost: "127.0.0.1",
    host: HOST,
    host_outside: HOST_OUTSIDE,
    client: CLIENT,
    outside: OUTSIDE,
    beyond: "203.0.113.1",
    gateway: "10.6.0.1",
    web: "10.6.0.2",
    near: "10.6.0.3",
    far_gateway: "10.7.0.1",
};
const IPV6: Family = Family {
    localhost: "::1",
    host: HOST6,
    host_outside: HOST_OUTSIDE6,
    client: CLIENT6,
    outside: OUTSIDE6,
    beyond: "2001:db8:113::1",
    gateway: "fd00:6::1",
    web: "fd00:6::2",
    near: "fd00:6::3",
    far_gateway: "fd00:7::1",
};

/// A journey: who connects to what.
struct Journey {
    what: &'static str,
    from: PathBuf,
    to: SocketAddr,
    /// Who has the server.
    server: PathBuf,
}

/// A lab with two networks of both families: `web` and `near` on one, `far` on the other.
struct Scene {
    lab: Lab,
    web: String,
    near: String,
    far: String,
}

impl Scene {
    /// `publish` is what `web` publishes.
    fn new(publish: &[&str]) -> Self {
        let lab = Lab::new();
        for (name, subnet, subnet6) in
            [("six", "10.6.0.0/24", "fd00:6::/64"), ("seven", "10.7.0.0/24", "fd00:7::/64")]
        {
            lab.netd(&["network", "create", name, "--subnet", subnet, "--subnet", subnet6]).ok();
        }
        let web = lab.container("web", &[&["--network", "six"], publish].concat());
        let near = lab.container("near", &["--network", "six"]);
        let far = lab.container("far", &["--network", "seven"]);
        Self { lab, web, near, far }
    }

    /// Every journey to `web`'s port `inside`, which is published as `published`, and from `web` to a server of the
    /// same kind outside.
    fn journeys(&self, family: &Family, published: u16, inside: u16) -> Vec<Journey> {
        let (client, host) = (self.lab.client.path(), self.lab.host.path());
        let [web, near, far] = [&self.web, &self.near, &self.far].map(|name| sandbox(name));
        let table = [
            ("from outside to a published port", &client, family.host, published, &web),
            ("from the host to localhost", &host, family.localhost, published, &web),
            ("from the host to its own address", &host, family.host, published, &web),
            ("from a container to another's published port", &near, family.host, published, &web),
            ("from a container to another network's", &far, family.host, published, &web),
            ("from a container to its own", &web, family.host, published, &web),
            ("from a container to its neighbour", &near, family.web, inside, &web),
            ("from a container to outside", &web, family.outside, inside, &self.lab.outside.path()),
        ];
        table
            .into_iter()
            .map(|(what, from, to, port, server)| Journey {
                what,
                from: from.clone(),
                to: SocketAddr::new(to.parse().unwrap(), port),
                server: server.clone(),
            })
            .collect()
    }
}

/// The output of a shell command in a namespace.
fn said(netns: &Path, line: &str) -> String {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", netns.display())).args(["sh", "-c", line]).stdin(Stdio::null());
    String::from_utf8_lossy(&command.output().unwrap().stdout).into_owned()
}

fn a_gib_each_way(family: &Family) {
    let scene = Scene::new(&["-p", "8080:80"]);
    let patient = |stream: &TcpStream| {
        stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
        stream.set_write_timeout(Some(Duration::from_mins(1))).unwrap();
    };
    let serve = move |stream: TcpStream, _| {
        patient(&stream);
        receive(&stream, GIB);
        send(&stream, GIB);
    };
    for journey in scene.journeys(family, 8080, 80) {
        let _server = Server::tcp(&journey.server, 80, serve);
        let transfer = || {
            let mut stream = TcpStream::connect(journey.to).unwrap();
            patient(&stream);
            send(&stream, GIB);
            receive(&stream, GIB);
            assert_eq!(std::io::Read::read(&mut stream, &mut [0]).unwrap(), 0, "there is more");
        };
        let whole = std::panic::catch_unwind(|| run_in(&journey.from, transfer));
        assert!(whole.is_ok(), "{}", journey.what);
    }
    let port = scene.lab.port("tcp", 8080);
    // Connections of the host itself pass no program, so they are not counted.
    for direction in ["in", "out"] {
        assert!(port["bytes"][direction].as_u64().unwrap() > 4 * GIB, "{port}");
    }
    assert_eq!((&port["dropped"], &port["flows"]["total"]), (&0.into(), &6.into()), "{port}");
}

#[test]
fn a_gib_arrives_intact_each_way_on_every_path_in_ipv4() {
    a_gib_each_way(&IPV4);
}

#[test]
fn a_gib_arrives_intact_each_way_on_every_path_in_ipv6() {
    a_gib_each_way(&IPV6);
}

#[test]
fn dig_gets_answers_by_udp_and_tcp_on_every_path() {
    let scene = Scene::new(&["-p", "5300:53/udp", "-p", "5300:53/tcp"]);
    let line = "exec dnsmasq --no-daemon --no-resolv --no-hosts --conf-file=/dev/null --user=root \
                --address=/netd.test/192.0.2.7 --address=/netd.test/2001:db8::7 --log-facility=/dev/null";
    let _dnsmasq = [&scene.web, &scene.lab.outside.name]
        .map(|name| Process::new(scene.lab.command_in(name, line).stderr(Stdio::null())));
    for family in [&IPV4, &IPV6] {
        for journey in scene.journeys(family, 5300, 53) {
            for (transport, record, address) in
                [("+notcp", "A", "192.0.2.7"), ("+tcp", "AAAA", "2001:db8::7")]
            {
                let (server, port) = (journey.to.ip(), journey.to.port());
                let line = format!(
                    "dig +short +time=1 +tries=1 {transport} @{server} -p {port} www.netd.test {record}"
                );
                wait_for(&format!("an answer {}: {line}", journey.what), PATIENCE, || {
                    said(&journey.from, &line).trim() == address
                });
            }
        }
    }
}

#[test]
fn every_hop_and_every_ping_is_answered() {
    let scene = Scene::new(&["-p", "8080:80", "-p", "5353:53/udp"]);
    let lab = &scene.lab;
    let [web, near, far] = [&scene.web, &scene.near, &scene.far].map(|name| sandbox(name));
    let (client, host) = (lab.client.path(), lab.host.path());
    for family in [&IPV4, &IPV6] {
        let bits = if family.beyond.contains(':') { 128 } else { 32 };
        lab.outside.ip(&format!("address add {}/{bits} dev lo", family.beyond));
        // To outside; to a published port, which answers with the host's address; and the same from another network.
        let table = [
            (&web, "-U", family.beyond, vec![family.gateway, family.beyond]),
            (&web, "-I", family.beyond, vec![family.gateway, family.beyond]),
            (&web, "-T", family.beyond, vec![family.gateway, family.beyond]),
            (&near, "-U", family.web, vec![family.web]),
            (&client, "-T -p 8080", family.host, vec![family.host, family.host]),
            (&client, "-U -p 5353", family.host, vec![family.host, family.host]),
            (&far, "-T -p 8080", family.host, vec![family.far_gateway, family.host]),
            (&far, "-U -p 5353", family.host, vec![family.far_gateway, family.host]),
        ];
        for (from, how, to, hops) in table {
            // The previous trace may have used up the ICMP errors of this second.
            let line = format!("traceroute -n -q 1 -N 1 -w 2 {how} {to}");
            wait_for(&format!("{line} to show {hops:?}"), 4 * PATIENCE, || {
                let traced = said(from, &line);
                let seen: Vec<&str> =
                    traced.lines().skip(1).filter_map(|line| line.split_whitespace().nth(1)).collect();
                println!("{traced}");
                seen == hops
            });
        }
        let table = [
            (&web, family.beyond),
            (&web, family.client),
            (&web, family.gateway),
            (&web, family.host_outside),
            (&web, family.near),
            (&host, family.web),
            (&client, family.host),
            (&client, family.host_outside),
        ];
        for (from, to) in table {
            let said = said(from, &format!("ping -n -c 3 -i 0.01 -W 5 {to}"));
            assert!(said.contains(" 3 received, 0% packet loss"), "{to}: {said}");
        }
    }
}

#[test]
fn a_udp_reply_has_the_address_that_the_request_was_sent_to() {
    let scene = Scene::new(&["-p", "5353:53/udp"]);
    for address in ["198.18.0.11/24", "198.18.0.12/24", "2001:db8:18::11/64", "2001:db8:18::12/64"] {
        scene.lab.host.ip(&format!("address add {address} dev up0"));
    }
    let hosts = [
        [HOST, "198.18.0.11", "198.18.0.12", HOST_OUTSIDE],
        [HOST6, "2001:db8:18::11", "2001:db8:18::12", HOST_OUTSIDE6],
    ];
    for (any, hosts) in ["0.0.0.0", "::"].into_iter().zip(hosts) {
        // A server that is bound to no address and knows only the client's.
        let server = run_in(&sandbox(&scene.web), || when_free(|| UdpSocket::bind((any, 53))));
        server.set_read_timeout(Some(PATIENCE)).unwrap();
        let answer = || {
            let mut buffer = [0; 100];
            let (len, from) = server.recv_from(&mut buffer).unwrap();
            server.send_to(&buffer[..len], from).unwrap();
            from.ip()
        };
        let rounds = 2 * hosts.len();
        std::thread::scope(|scope| {
            let serving = scope.spawn(|| (0..rounds).map(|_round| answer()).collect::<Vec<IpAddr>>());
            scene.lab.client.run(|| {
                // The same socket all the time: the flows differ only in their destination address.
                let socket = UdpSocket::bind((any, 0)).unwrap();
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                for host in hosts.iter().cycle().take(rounds) {
                    let to = SocketAddr::new(host.parse().unwrap(), 5353);
                    let (bytes, from) = udp_ask(&socket, &to.to_string(), host.as_bytes()).unwrap();
                    assert_eq!((bytes.as_slice(), from), (host.as_bytes(), to));
                }
            });
            let client: IpAddr = if any == "::" { CLIENT6 } else { CLIENT }.parse().unwrap();
            assert!(serving.join().unwrap().iter().all(|seen| *seen == client));
        });
    }
}
