//! Metrics: their text, and the server that answers scrapes.

#![expect(clippy::float_cmp, reason = "all of them are short decimal numbers, written and read again")]

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Stdio;

use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::{Process, sandbox};
use netd_tests::openmetrics::Metrics;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_ask, udp_socket};
use netd_tests::wait_for;
use nix::sys::signal::Signal;

/// A lab whose commands start a follower.
fn followed() -> Lab {
    let mut lab = Lab::new();
    lab.follows = true;
    lab
}

/// The socket of the only instance of a lab, once it is there.
#[track_caller]
fn socket(lab: &Lab) -> PathBuf {
    let mut found = None;
    wait_for("the socket", PATIENCE, || {
        let folders = fs::read_dir(lab.state_dir()).unwrap().map(|entry| entry.unwrap().path());
        found = folders.map(|folder| folder.join("metrics.sock")).find(|path| path.exists());
        found.is_some()
    });
    found.unwrap()
}

/// What curl says, with these options; the head of the answer too.
#[track_caller]
fn curl(lab: &Lab, options: &str) -> String {
    lab.host.sh(&format!("curl --silent --show-error --include --max-time 60 {options}"))
}

/// A scrape by the Unix socket.
#[track_caller]
fn scrape(lab: &Lab) -> Metrics {
    let answer = curl(lab, &format!("--unix-socket {} http://localhost/metrics", socket(lab).display()));
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.lines().any(|line| line.eq_ignore_ascii_case(kind)), "{head}");
    Metrics::read(text, "netd_")
}

/// Whether the follower answers on this address of the host.
fn answers(lab: &Lab, address: &str) -> bool {
    lab.host.try_sh(&format!("curl --silent --fail --max-time 60 http://{address}/metrics")).status.success()
}

/// The follower's process.
fn follower(lab: &Lab) -> i64 {
    lab.netd(&["--json", "status"]).ok().json()["follower"]["pid"].as_i64().unwrap()
}

#[test]
fn a_scrape_tells_what_has_passed() {
    let lab = followed();
    let web = lab.container("web", &["-p", "8080:80", "-p", &format!("{HOST}:30000-30099:30000-30099/udp")]);
    let (_server, _echo) = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 30_007));
    lab.netd(&["publish", "9090:80", "198.19.0.2"]).ok();
    lab.client.run(|| {
        for _connection in 0..3 {
            tcp_first_line(&format!("{HOST}:8080"), PATIENCE).unwrap();
        }
        udp_ask(&udp_socket(PATIENCE), &format!("{HOST}:30007"), &[0; 100]).unwrap();
    });
    lab.netd(&["access", "--deny", "198.18.0.0/24"]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), SILENCE)).is_err());
    let metrics = scrape(&lab);
    let tcp = [("proto", "tcp"), ("host_address", "*"), ("host_port", "8080"), ("container", web.as_str())];
    assert_eq!(metrics.value("netd_publication_connections_total", &tcp), 3.0);
    assert!(metrics.value("netd_publication_receive_bytes_total", &tcp) >= 3.0 * 4.0 * 54.0);
    assert!(metrics.value("netd_publication_transmit_packets_total", &tcp) >= 3.0 * 3.0);
    assert!(metrics.value("netd_publication_dropped_packets_total", &tcp) >= 1.0);
    assert!(metrics.value("netd_dropped_packets_total", &[("reason", "denied")]) >= 1.0);
    // A range is one series.
    let range = [("host_address", HOST), ("host_port", "30000-30099"), ("target_port", "30000-30099")];
    assert_eq!(metrics.value("netd_publication_receive_bytes_total", &range), 142.0);
    assert_eq!(metrics.value("netd_publication_transmit_bytes_total", &range), 142.0);
    let remote = [("host_port", "9090"), ("remote_address", "198.19.0.2")];
    assert_eq!(metrics.value("netd_publication_connections_total", &remote), 0.0);
    assert_eq!(metrics.values("netd_publication_connections_total", &[]).len(), 3);
    assert_eq!(metrics.value("netd_publications", &[]), 3.0);
    let sum = |name, labels: &[(&str, &str)]| metrics.values(name, labels).iter().sum::<f64>();
    assert_eq!(sum("netd_flow_table_entries", &[("family", "ipv4")]), 4.0);
    assert_eq!(sum("netd_quota_entries", &[("family", "ipv4"), ("container", &web)]), 4.0);
    for (name, limit) in [
        ("netd_flow_table_entries", "netd_flow_table_entries_limit"),
        ("netd_quota_entries", "netd_quota_entries_limit"),
    ] {
        for table in
            [[("table", "established"), ("family", "ipv4")], [("table", "unreplied"), ("family", "ipv6")]]
        {
            assert!(metrics.value(name, &table) < metrics.value(limit, &table), "{name} {table:?}");
        }
    }
    assert_eq!(metrics.value("netd_quota_ratio", &[]), 0.8);
    assert_eq!(metrics.value("netd_follower_up", &[]), 1.0);
    assert_eq!(metrics.value("netd_follower_last_pass_successful", &[]), 1.0);
    assert!(metrics.value("netd_follower_passes_total", &[]) >= 1.0);
    assert!(metrics.value("netd_follower_last_pass_timestamp_seconds", &[]) > 1.7e9);
    let digest = lab.program("uplink_ingress");
    let digest = digest.parent().unwrap().file_name().unwrap().to_str().unwrap();
    assert_eq!(metrics.value("netd_build_info", &[("digest", digest)]), 1.0);
    // The command tells the same without the server.
    let printed = Metrics::read(&lab.netd(&["metrics"]).ok().stdout, "netd_");
    assert_eq!(printed.value("netd_publication_connections_total", &tcp), 3.0);
    assert_eq!(lab.netd(&["--json", "metrics"]).ok().json()["ports"][0]["flows"]["total"], 3);
}

#[test]
fn only_root_can_open_the_socket_and_it_goes_with_the_instance() {
    let lab = followed();
    lab.container("web", &[]);
    let path = socket(&lab);
    let found = fs::metadata(&path).unwrap();
    assert!(found.file_type().is_socket());
    assert_eq!((found.permissions().mode() & 0o777, found.uid()), (0o600, 0));
    assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
    // One that was removed is made again.
    fs::remove_file(&path).unwrap();
    wait_for("another socket", PATIENCE, || path.exists());
    scrape(&lab);
    lab.netd(&["set", "metrics=off"]).ok();
    wait_for("the socket's end", PATIENCE, || !path.exists());
    lab.netd(&["set", "metrics=auto"]).ok();
    wait_for("the socket", PATIENCE, || path.exists());
    lab.netd(&["down"]).ok();
    assert!(!lab.state_dir().exists());
}

#[test]
fn a_follower_that_was_killed_leaves_its_socket_to_the_next_one() {
    let lab = followed();
    let web = lab.container("web", &[]);
    scrape(&lab);
    lab.host.sh(&format!("kill -9 {}", follower(&lab)));
    wait_for("its end", PATIENCE, || lab.netd(&["--json", "status"]).ok().json()["follower"].is_null());
    assert!(socket(&lab).exists());
    lab.netd(&["publish", "8080:80", &web]).ok();
    wait_for("another one's answer", PATIENCE, || UnixStream::connect(socket(&lab)).is_ok());
    assert_eq!(scrape(&lab).value("netd_publications", &[]), 1.0);
}

#[test]
fn the_host_serves_metrics_on_loopback_if_it_is_asked_to() {
    let lab = followed();
    lab.container("web", &[]);
    assert!(!answers(&lab, "127.0.0.1:9191"));
    lab.netd(&["set", "metrics=127.0.0.1:9191"]).ok();
    assert_eq!(lab.netd(&["get", "metrics"]).ok().stdout, "127.0.0.1:9191\n");
    wait_for("IPv4", PATIENCE, || answers(&lab, "127.0.0.1:9191"));
    scrape(&lab);
    lab.netd(&["set", "metrics=[::1]:9192"]).ok();
    wait_for("IPv6", PATIENCE, || answers(&lab, "[::1]:9192"));
    assert!(!answers(&lab, "127.0.0.1:9191"));
    for address in ["0.0.0.0:9191", "[::]:9191", &format!("{HOST}:9191")] {
        lab.netd(&["set", &format!("metrics={address}")]).fails(2, "not a loopback address");
    }
    assert_eq!(lab.netd(&["get", "metrics"]).ok().stdout, "[::1]:9192\n");
    assert!(answers(&lab, "[::1]:9192"));
    lab.netd(&["set", "metrics=auto"]).ok();
    wait_for("the end", PATIENCE, || !answers(&lab, "[::1]:9192"));
}

#[test]
fn a_port_in_use_is_a_warning_until_it_is_free() {
    let lab = followed();
    lab.container("web", &[]);
    let taken = lab.host.run(|| TcpListener::bind("127.0.0.1:9191").unwrap());
    lab.netd(&["set", "metrics=127.0.0.1:9191"]).ok();
    let warned = || lab.netd(&["status"]).ok().stdout.contains("cannot listen on 127.0.0.1:9191");
    wait_for("the warning", PATIENCE, warned);
    let pid = follower(&lab);
    scrape(&lab);
    drop(taken);
    wait_for("an answer", PATIENCE, || answers(&lab, "127.0.0.1:9191"));
    wait_for("the warning's end", PATIENCE, || !warned());
    assert_eq!(follower(&lab), pid);
}

/// A follower that tells what fails on stderr.
#[test]
fn a_service_tells_that_it_cannot_serve() {
    let lab = Lab::new();
    lab.container("web", &[]);
    let _taken = lab.host.run(|| TcpListener::bind("127.0.0.1:9191").unwrap());
    lab.netd(&["set", "metrics=127.0.0.1:9191"]).ok();
    let mut command = lab.netd_command(&["serve"]);
    let log = lab.folder.path().join("log");
    let service = Process::new(command.stdout(Stdio::null()).stderr(fs::File::create(&log).unwrap()));
    wait_for("the warning", PATIENCE, || {
        fs::read_to_string(&log).unwrap().contains("cannot listen on 127.0.0.1:9191: Address already in use")
    });
    service.signal(Signal::SIGTERM);
}

#[test]
fn clients_that_are_slow_or_send_rubbish_harm_nobody() {
    let lab = followed();
    let web = lab.container("web", &[]);
    lab.netd(&["set", "metrics=127.0.0.1:9191"]).ok();
    wait_for("an answer", PATIENCE, || answers(&lab, "127.0.0.1:9191"));
    let pid = follower(&lab);
    // More than are answered at once, and they say nothing, or half of something.
    let idle: Vec<TcpStream> = lab.host.run(|| {
        (0..20)
            .map(|number| {
                let mut stream = TcpStream::connect("127.0.0.1:9191").unwrap();
                if number % 2 == 0 {
                    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").unwrap();
                }
                stream
            })
            .collect()
    });
    // They do not keep root's socket from being served, nor the follower from its work.
    scrape(&lab);
    let before = scrape(&lab).value("netd_follower_passes_total", &[]);
    lab.host.ip("link add v0 type veth peer name v1");
    wait_for("a look", PATIENCE, || scrape(&lab).value("netd_follower_passes_total", &[]) > before);
    // All of them are cut off.
    for mut stream in idle {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let end = stream.read_to_end(&mut Vec::new());
        assert!(end.is_ok() || end.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionReset));
    }
    let path = socket(&lab);
    let says = |sent: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        // It may be cut off while it sends.
        let _cut_off = stream.write_all(sent);
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned()
    };
    let long = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    for (sent, answer) in [
        (&b"rubbish\r\n\r\n"[..], "HTTP/1.1 400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "HTTP/1.1 400 Bad Request"),
        (long.as_bytes(), "HTTP/1.1 431 Request Header Fields Too Large"),
        (
            b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody",
            "HTTP/1.1 405 Method Not Allowed",
        ),
        (b"GET /other HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 404 Not Found"),
        (b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK"),
        (b"GET /metrics HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK"),
    ] {
        assert_eq!(says(sent), answer, "{}", String::from_utf8_lossy(&sent[..sent.len().min(40)]));
    }
    // Many at once, all with an answer.
    std::thread::scope(|scope| {
        let clients: Vec<_> =
            (0..30).map(|_| scope.spawn(|| says(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"))).collect();
        for client in clients {
            assert_eq!(client.join().unwrap(), "HTTP/1.1 200 OK");
        }
    });
    assert_eq!(follower(&lab), pid);
    lab.netd(&["publish", "8080:80", &web]).ok();
    assert_eq!(scrape(&lab).value("netd_publications", &[]), 1.0);
}

#[test]
fn a_scrape_waits_for_no_lock_and_shows_what_waits() {
    let lab = followed();
    lab.container("web", &["-p", "8080:80"]);
    scrape(&lab);
    let lock = socket(&lab).with_file_name("lock");
    let lock = fs::File::options().read(true).write(true).open(lock).unwrap();
    lock.lock().unwrap();
    // The follower has something to do and waits for the lock.
    lab.host.ip("link add v0 type veth peer name v1");
    wait_for("the follower to wait", PATIENCE, || scrape(&lab).value("netd_follower_lag_seconds", &[]) > 0.0);
    assert_eq!(scrape(&lab).value("netd_publications", &[]), 1.0);
    for words in [&["ports"][..], &["ports", "--active"], &["status"], &["metrics"], &["get"], &["flows"]] {
        lab.netd(words).ok();
    }
    lock.unlock().unwrap();
    wait_for("the follower's look", PATIENCE, || scrape(&lab).value("netd_follower_lag_seconds", &[]) == 0.0);
}

#[test]
fn an_instance_without_anything_has_metrics() {
    let lab = Lab::new();
    let metrics = Metrics::read(&lab.netd(&["metrics"]).ok().stdout, "netd_");
    assert_eq!(metrics.value("netd_publications", &[]), 0.0);
    assert_eq!(metrics.value("netd_follower_up", &[]), 0.0);
}
