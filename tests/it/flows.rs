//! Connections as `netd flows` lists them.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;

use netd_tests::lab::{CLIENT, HOST, HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server, udp_ask, udp_socket};
use serde_json::Value;

fn flows(lab: &Lab, words: &[&str]) -> Vec<Value> {
    let words: Vec<&str> = ["--json", "flows"].iter().chain(words).copied().collect();
    lab.netd(&words).ok().json().as_array().unwrap().clone()
}

#[test]
fn connections_are_listed_with_their_state_and_both_directions() {
    let lab = Lab::new();
    assert!(flows(&lab, &[]).is_empty());
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let _far = Server::udp_echo(&lab.outside.path(), 53);
    let stream = lab.client.run(|| TcpStream::connect(format!("{HOST}:8080")).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = String::new();
    BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
    let port = stream.local_addr().unwrap().port();
    let inside = lab.run_in(&web, || {
        let socket = udp_socket(PATIENCE);
        udp_ask(&socket, &format!("{OUTSIDE}:53"), b"x").unwrap();
        socket.local_addr().unwrap().port()
    });
    let tcp = flows(&lab, &["--proto", "tcp"]);
    let [tcp] = tcp.as_slice() else { panic!("{tcp:?}") };
    assert_eq!((&tcp["state"], &tcp["container"]), (&"established".into(), &web.clone().into()));
    assert_eq!(tcp["publication"], "8080:80/tcp");
    let tuple = |direction: &Value| {
        let end = |address: &str, port: &str| {
            (direction[address].as_str().unwrap().to_owned(), direction[port].as_u64().unwrap())
        };
        (end("src", "src_port"), end("dst", "dst_port"))
    };
    let end = |address: &str, port: u16| (address.to_owned(), u64::from(port));
    assert_eq!(tuple(&tcp["original"]), (end(CLIENT, port), end(HOST, 8080)));
    assert_eq!(tuple(&tcp["reply"]), (end(&lab.address(&web), 80), end(CLIENT, port)));
    assert!(
        tcp["original"]["packets"].as_u64().unwrap() >= 2 && tcp["reply"]["bytes"].as_u64().unwrap() > 100
    );
    let udp = flows(&lab, &["--port", "53"]);
    let [udp] = udp.as_slice() else { panic!("{udp:?}") };
    assert_eq!((&udp["state"], &udp["publication"]), (&"two_way".into(), &Value::Null));
    assert_eq!(tuple(&udp["original"]), (end(&lab.address(&web), inside), end(OUTSIDE, 53)));
    let seen = u16::try_from(udp["reply"]["dst_port"].as_u64().unwrap()).unwrap();
    assert!(!(32768..=60999).contains(&seen), "the kernel may give {seen} to the host's sockets");
    assert_eq!(tuple(&udp["reply"]), (end(OUTSIDE, 53), end(HOST_OUTSIDE, seen)));
    let text = lab.netd(&["flows", "--container", &web]).ok().stdout;
    assert!(text.starts_with("PROTO") && text.contains("established") && text.contains("two_way"), "{text}");
    lab.netd(&["flows", "--container", "nobody"]).fails(1, "there is no container");
    // A closed connection is listed as such; one whose port was unpublished is not listed.
    drop(stream);
    let closed =
        |flow: &Value| ["time_wait", "fin_wait", "closed"].contains(&flow["state"].as_str().unwrap());
    netd_tests::wait_for("the connection to be closed", PATIENCE, || {
        flows(&lab, &["--proto", "tcp"]).iter().all(closed)
    });
    lab.netd(&["unpublish", "8080"]).ok();
    assert!(flows(&lab, &["--proto", "tcp"]).is_empty());
    lab.netd(&["container", "rm", &web]).ok();
    assert!(flows(&lab, &[]).is_empty());
}
