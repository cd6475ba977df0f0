//! Broadcasts on the link of an uplink.

use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, udp_ask, udp_socket};

#[test]
fn a_broadcast_reaches_a_published_udp_port() {
    let lab = Lab::new();
    let game = lab.container("game", &["-p", "19132:19132/udp", "-p", &format!("{HOST}:19133:19132/udp")]);
    let _server = Server::udp_echo(&sandbox(&game), 19132);
    lab.client.ip("route add 255.255.255.255 dev eth0");
    let ask = |to: &str, patience| {
        lab.client.run(|| {
            let socket = udp_socket(patience);
            socket.set_broadcast(true).unwrap();
            udp_ask(&socket, to, b"who is there?")
        })
    };
    for to in ["198.18.0.255:19132", "255.255.255.255:19132"] {
        let (answer, from) = ask(to, PATIENCE).unwrap();
        assert_eq!((answer.as_slice(), from.to_string()), (&b"who is there?"[..], format!("{HOST}:19132")));
    }
    // A port on one address gets none, as a socket that is bound to it.
    ask("198.18.0.255:19133", SILENCE).unwrap_err();
    // The conversation goes on with the address that has answered.
    ask(&format!("{HOST}:19132"), PATIENCE).unwrap();
}
