//! Who may use a published port.

use netd_tests::lab::{CLIENT, HOST, HOST_OUTSIDE, HOST6, Lab, OUTSIDE};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, patience, tcp_first_line};

/// Checks whether the client and the outside machine reach a port, as `must` says.
#[track_caller]
fn reach(lab: &Lab, port: u16, client: bool, outside: bool) {
    for (from, host, must) in [(&lab.client, HOST, client), (&lab.outside, HOST_OUTSIDE, outside)] {
        let answer = from.run(|| tcp_first_line(&format!("{host}:{port}"), patience(must)));
        assert_eq!(answer.is_ok(), must, "{host}:{port}: {answer:?}");
    }
}

#[test]
fn access_lists_of_a_publication_apply() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80", "--deny", OUTSIDE]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    lab.netd(&["publish", "8081:80", &web, "--allow", "198.18.0.0/15", "--deny", "198.18.0.0/24"]).ok();
    lab.netd(&[
        "publish",
        "8082:80",
        &web,
        "--allow",
        "198.18.0.0/15",
        "--deny",
        "198.18.0.0/24",
        "--allow",
        CLIENT,
    ])
    .ok();
    lab.netd(&["publish", "8083:80", &web, "--allow", "2001:db8::/32"]).ok();
    // 8080 allows all but one source; for 8081 and 8082 the longest prefix counts; 8083 allows only the other family.
    reach(&lab, 8080, true, false);
    reach(&lab, 8081, false, true);
    reach(&lab, 8082, true, true);
    reach(&lab, 8083, false, false);
    // The container has no IPv6. The access lists are compared with the address of the IPv6 client.
    assert!(lab.client.run(|| tcp_first_line(&format!("[{HOST6}]:8083"), PATIENCE)).is_ok());
    assert!(lab.client.run(|| tcp_first_line(&format!("[{HOST6}]:8081"), SILENCE)).is_err());
    // The host itself is always allowed.
    assert!(lab.host.run(|| tcp_first_line("127.0.0.1:8083", PATIENCE)).is_ok());
    // Another container is a source like any other.
    let other = lab.container("other", &[]);
    lab.run_in(&other, || {
        assert!(tcp_first_line(&format!("{HOST}:8080"), PATIENCE).is_ok());
        assert!(tcp_first_line(&format!("{HOST}:8081"), SILENCE).is_err());
    });
    let port = lab.port("tcp", 8081);
    assert_eq!(port["access"], serde_json::json!({"allow": ["198.18.0.0/15"], "deny": ["198.18.0.0/24"]}));
    assert!(port["dropped"].as_u64().unwrap() > 0);
    let status = lab.netd(&["--json", "status"]).ok().json();
    let denied = status["drops"].as_array().unwrap().iter().find(|drop| drop["reason"] == "denied").unwrap();
    assert!(denied["packets"].as_u64().unwrap() > 0);
    let listed = lab.netd(&["ports"]).ok().stdout;
    assert!(listed.contains("allow 198.18.0.0/15") && listed.contains("deny 198.18.0.0/24"), "{listed}");
}

#[test]
fn default_lists_apply_to_ports_without_their_own() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    assert_eq!(lab.netd(&["access"]).ok().stdout, "everybody is allowed\n");
    reach(&lab, 8080, true, true);
    lab.netd(&["access", "--allow", CLIENT]).ok();
    reach(&lab, 8080, true, false);
    // The default lists also apply to later publications, but not to those with their own lists.
    lab.netd(&["publish", "8081:80", &web]).ok();
    lab.netd(&["publish", "8082:80", &web, "--allow", "0.0.0.0/0"]).ok();
    reach(&lab, 8081, true, false);
    reach(&lab, 8082, true, true);
    // New lists replace the old ones.
    lab.netd(&["access", "--deny", CLIENT]).ok();
    reach(&lab, 8080, false, true);
    let shown = lab.netd(&["--json", "access"]).ok().json();
    assert_eq!(shown, serde_json::json!({"allow": [], "deny": [format!("{CLIENT}/32")]}));
    lab.netd(&["access", "--open"]).ok();
    reach(&lab, 8080, true, true);
}

#[test]
fn open_connections_survive_new_access_lists() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    let stream = lab.client.run(|| std::net::TcpStream::connect(format!("{HOST}:8080")).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), CLIENT);
    lab.netd(&["access", "--allow", "192.0.2.1"]).ok();
    reach(&lab, 8080, false, false);
    (&stream).write_all(b"still here\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "still here");
}
