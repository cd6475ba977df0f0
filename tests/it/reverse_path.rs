//! By which uplink the packets of a connection may come in: where the host's reverse path filter is strict, by the one that leads
//! back; of a port that is published for one interface, by that one.

use std::net::UdpSocket;

use netd_tests::lab::{HOST, HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::packet::Packet;
use netd_tests::probe::{PATIENCE, udp_on};
use netd_tests::tap::{Tap, mac};

const FAR: [u8; 4] = [198, 19, 0, 2];
const FAR_PORT: u16 = 9000;

/// A host with a container that has a UDP socket, and a client that forges what comes from the outside network.
struct Scene {
    lab: Lab,
    web: String,
    inside: UdpSocket,
    forger: Tap,
    towards: [u8; 6],
}

impl Scene {
    fn new(rp_filter: u8, publish: &[&str]) -> Self {
        let lab = Lab::new();
        for interface in ["all", "up0", "up1"] {
            lab.host.sh(&format!("sysctl -qw net.ipv4.conf.{interface}.rp_filter={rp_filter}"));
        }
        let web = lab.container("web", &[]);
        lab.netd(&[&["publish", "5353:53/udp", &web], publish].concat()).ok();
        let inside = lab.run_in(&web, || udp_on(53));
        inside.set_read_timeout(Some(PATIENCE)).unwrap();
        let (forger, towards) = (Tap::open(&lab.client.path(), "eth0"), mac(&lab.host.path(), "up0"));
        Self { lab, web, inside, forger, towards }
    }

    /// Sends a datagram in the name of the outside machine, by the client's wire.
    fn forge(&self, to: ([u8; 4], u16)) {
        let packet = Packet { payload: b"forged".to_vec(), ..Packet::udp((FAR, FAR_PORT), to) };
        self.forger.send(self.towards, &packet.bytes()[14..]);
    }

    /// What the container gets next, and from whom.
    fn next(&self) -> (String, std::net::SocketAddr) {
        let mut buffer = [0; 64];
        let (len, from) = self.inside.recv_from(&mut buffer).unwrap();
        (String::from_utf8_lossy(&buffer[..len]).into_owned(), from)
    }
}

/// The machine that is forged.
fn far(lab: &Lab) -> UdpSocket {
    let socket = lab.outside.run(|| udp_on(FAR_PORT));
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn octets(address: &str) -> [u8; 4] {
    address.parse::<std::net::Ipv4Addr>().unwrap().octets()
}

#[test]
fn a_forged_source_opens_nothing_where_the_reverse_path_is_strict() {
    for (rp_filter, passes) in [(1, false), (0, true), (2, true)] {
        let scene = Scene::new(rp_filter, &[]);
        let far = far(&scene.lab);
        scene.forge((octets(HOST), 5353));
        far.send_to(b"real", (HOST_OUTSIDE, 5353)).unwrap();
        let first = if passes { "forged" } else { "real" };
        assert_eq!(scene.next().0, first, "rp_filter={rp_filter}");
    }
}

#[test]
fn a_connection_accepts_nothing_by_another_uplink() {
    // By the kernel's setting, and by the publication's own.
    for (rp_filter, publish) in [(1, &[][..]), (0, &["--interface", "up1"][..])] {
        let scene = Scene::new(rp_filter, publish);
        let far = far(&scene.lab);
        for (number, answered) in [(0, false), (1, true), (2, true)] {
            far.send_to(format!("real {number}").as_bytes(), (HOST_OUTSIDE, 5353)).unwrap();
            let (text, from) = scene.next();
            assert_eq!(text, format!("real {number}"), "{publish:?}");
            if answered {
                scene.inside.send_to(b"answer", from).unwrap();
                assert_eq!(far.recv(&mut [0; 64]).unwrap(), 6);
            }
            scene.forge((octets(HOST_OUTSIDE), 5353));
        }
    }
}

#[test]
fn answers_to_a_container_come_by_the_uplink_that_it_asked_by() {
    let scene = Scene::new(1, &[]);
    let far = far(&scene.lab);
    let asking = scene.lab.run_in(&scene.web, || udp_on(7000));
    asking.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 64];
    for _round in 0..3 {
        asking.send_to(b"question", (OUTSIDE, FAR_PORT)).unwrap();
        let (_, from) = far.recv_from(&mut buffer).unwrap();
        scene.forge((octets(HOST_OUTSIDE), from.port()));
        far.send_to(b"answer", from).unwrap();
        let len = asking.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"answer");
    }
}
