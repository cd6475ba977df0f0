//! Published ports that get another target (`--replace`).

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use netd_tests::lab::{HOST, HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::netns::{Netns, sandbox};
use netd_tests::probe::{
    PATIENCE, SILENCE, Server, tcp_first_line, tcp_from, udp_answers, udp_socket, when_free,
};

/// A server that sends its container's name, then sends back what it receives.
fn named(netns: &Path, name: &str) -> Server {
    let name = name.to_owned();
    Server::tcp(netns, 80, move |mut stream, _from| {
        if writeln!(stream, "{name}").is_err() {
            return;
        }
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        while let Some(Ok(line)) = lines.next() {
            if writeln!(stream, "{line}").is_err() {
                return;
            }
        }
    })
}

/// A connection that stays open.
struct Long {
    stream: TcpStream,
    lines: Lines<BufReader<TcpStream>>,
}

impl Long {
    fn new(lab: &Lab, to: &str) -> Self {
        let stream = lab.client.run(|| TcpStream::connect(to).unwrap());
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let lines = BufReader::new(stream.try_clone().unwrap()).lines();
        Self { stream, lines }
    }

    fn line(&mut self) -> std::io::Result<String> {
        self.lines.next().unwrap_or_else(|| Err(std::io::ErrorKind::UnexpectedEof.into()))
    }

    #[track_caller]
    fn goes_on(&mut self) {
        self.stream.write_all(b"still here\n").unwrap();
        assert_eq!(self.line().unwrap(), "still here");
    }

    fn is_cut(&mut self) -> bool {
        self.stream.set_read_timeout(Some(SILENCE)).unwrap();
        self.stream.write_all(b"still here\n").is_err() || self.line().is_err()
    }
}

fn greeting(lab: &Lab, port: u16) -> String {
    lab.client.run(|| tcp_first_line(&format!("{HOST}:{port}"), PATIENCE)).unwrap()
}

/// How many SYNs a host has sent a second time.
fn syns_sent_again(netns: &Netns) -> u64 {
    let text = netns.sh("cat /proc/net/netstat");
    let mut lines = text.lines().filter(|line| line.starts_with("TcpExt:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "TCPSynRetrans").unwrap().1.parse().unwrap()
}

#[test]
fn a_port_is_replaced_without_a_refused_connection() {
    let lab = Lab::new();
    let (blue, green) = (lab.container("blue", &[]), lab.container("green", &[]));
    let _servers = (named(&sandbox(&blue), "blue"), named(&sandbox(&green), "green"));
    // If the rows of a closing connection are rebuilt, its state is lost, so it ends by its idle timeout.
    lab.netd(&["timeouts", "fin_wait=3s"]).ok();
    // Without a publication there is nothing to replace.
    lab.netd(&["publish", "--replace", "8080:80", &blue]).ok();
    let to = format!("{HOST}:8080");
    let mut old = Long::new(&lab, &to);
    assert_eq!(old.line().unwrap(), "blue");
    let (stop, made) = (AtomicBool::new(false), AtomicU32::new(0));
    std::thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            lab.client.run(|| {
                let (mut blue, mut green) = (0, 0);
                while !stop.load(Ordering::Relaxed) {
                    let line = tcp_first_line(&to, PATIENCE).unwrap();
                    if line == "blue" {
                        blue += 1;
                    } else {
                        green += 1;
                    }
                    made.fetch_add(1, Ordering::Relaxed);
                }
                (blue, green)
            })
        });
        for turn in 0..20 {
            let before = made.load(Ordering::Relaxed);
            let next = if turn % 2 == 0 { &green } else { &blue };
            lab.netd(&["publish", "--replace", "8080:80", next]).ok();
            netd_tests::wait_for("some connections", PATIENCE, || {
                connecting.is_finished() || made.load(Ordering::Relaxed) > before + 10
            });
        }
        stop.store(true, Ordering::Relaxed);
        let (blue, green) = connecting.join().unwrap();
        assert!(blue > 20 && green > 20, "{blue} and {green}");
    });
    assert_eq!(syns_sent_again(&lab.client), 0, "a SYN was lost");
    old.goes_on();
    // Publications without connections are removed; the old connection keeps its publication.
    netd_tests::wait_for("the closed connections to end", PATIENCE, || {
        lab.netd(&["sync"]).ok();
        let ports = lab.netd(&["--json", "ports"]).ok().json();
        ports.as_array().unwrap().len() == 2
    });
    let ports = lab.netd(&["--json", "ports"]).ok().json();
    assert_eq!((&ports[0]["draining"], &ports[1]["draining"]), (&false.into(), &true.into()));
    assert_eq!(ports[1]["target"], blue.as_str(), "{ports}");
    assert!(lab.netd(&["ports"]).ok().stdout.contains("*:8080 (draining)"));
    old.goes_on();
    drop(old);
    netd_tests::wait_for("the old connection to end", PATIENCE, || {
        lab.netd(&["sync"]).ok();
        lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len() == 1
    });
}

#[test]
fn a_reused_tuple_leads_to_the_new_target() {
    let lab = Lab::new();
    let (blue, green) = (lab.container("blue", &[]), lab.container("green", &[]));
    let _servers = (named(&sandbox(&blue), "blue"), named(&sandbox(&green), "green"));
    lab.netd(&["publish", "8080:80", &blue]).ok();
    let to = format!("{HOST}:8080");
    // Keeps the old publication alive.
    let mut old = Long::new(&lab, &to);
    assert_eq!(old.line().unwrap(), "blue");
    let from_one_port = || {
        lab.client.run(|| {
            let stream = when_free(|| tcp_from(45_000, to.parse().unwrap()));
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            line.trim().to_owned()
        })
    };
    assert_eq!(from_one_port(), "blue");
    lab.netd(&["publish", "--replace", "8080:80", &green]).ok();
    assert_eq!(from_one_port(), "green");
    assert_eq!(from_one_port(), "green");
    old.goes_on();
}

#[test]
fn open_connections_can_be_cut() {
    let lab = Lab::new();
    let (blue, green) = (lab.container("blue", &[]), lab.container("green", &[]));
    let _servers = (named(&sandbox(&blue), "blue"), named(&sandbox(&green), "green"));
    let to = format!("{HOST}:8080");
    lab.netd(&["publish", "8080:80", &blue]).ok();
    let mut old = Long::new(&lab, &to);
    assert_eq!(old.line().unwrap(), "blue");
    lab.netd(&["publish", "--replace", "--cut", "8080:80", &green]).ok();
    assert!(old.is_cut());
    assert_eq!(greeting(&lab, 8080), "green");
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len(), 1);
    // The connections are cut together with their port.
    let mut second = Long::new(&lab, &to);
    assert_eq!(second.line().unwrap(), "green");
    lab.netd(&["publish", "--replace", "8080:80", &blue]).ok();
    second.goes_on();
    lab.netd(&["unpublish", "8080"]).ok();
    assert!(second.is_cut());
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json(), serde_json::json!([]));
    // The connections are cut together with their container.
    lab.netd(&["publish", "8080:80", &blue]).ok();
    let mut third = Long::new(&lab, &to);
    assert_eq!(third.line().unwrap(), "blue");
    lab.netd(&["publish", "--replace", "8080:80", &green]).ok();
    third.goes_on();
    lab.netd(&["container", "rm", &blue]).ok();
    assert!(third.is_cut());
    assert_eq!(greeting(&lab, 8080), "green");
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len(), 1);
}

#[test]
fn everything_but_the_host_port_can_be_replaced() {
    let lab = Lab::new();
    let (blue, green) = (lab.container("blue", &[]), lab.container("green", &[]));
    let _blue = (named(&sandbox(&blue), "blue"), Server::udp_echo(&sandbox(&blue), 53));
    let _green = (named(&sandbox(&green), "green"), named(&lab.outside.path(), "outside"));
    let bound = format!("{HOST}:8000-8009");
    lab.netd(&["publish", &format!("{bound}:80-89"), &blue, "--allow", OUTSIDE]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8000"), SILENCE)).is_err());
    lab.netd(&["publish", "--replace", &format!("{bound}:80-89"), &green]).ok();
    assert_eq!(greeting(&lab, 8000), "green");
    assert_eq!(lab.port("tcp", 8000)["access"], serde_json::json!({"allow": [], "deny": []}));
    // To another port of the same container, and to another host.
    lab.netd(&["publish", "--replace", &format!("{bound}:71-80"), &blue]).ok();
    assert_eq!(greeting(&lab, 8009), "blue");
    lab.netd(&["publish", "--replace", &format!("{bound}:80-89"), OUTSIDE]).ok();
    assert_eq!(greeting(&lab, 8000), "outside");
    for (spec, part) in [
        ("8000-8009:80-89", "is not the same address and ports"),
        (&format!("{HOST}:8000:80"), "is not the same address and ports"),
        (&format!("{HOST}:8005-8014:80-89"), "is not the same address and ports"),
        ("80", "names no host ports to replace"),
    ] {
        lab.netd(&["publish", "--replace", spec, &blue]).fails(1, part);
    }
    lab.netd(&["publish", "--cut", "8000:80", &blue]).fails(2, "needs --replace");
    assert_eq!(greeting(&lab, 8000), "outside");
    lab.netd(&["unpublish", &bound]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8000"), SILENCE)).is_err());
    // Datagrams of an existing flow continue to the old target.
    lab.netd(&["publish", "5353:53/udp", &blue]).ok();
    let socket = lab.client.run(|| udp_socket(PATIENCE));
    let to = format!("{HOST}:5353");
    udp_answers(&socket, &to, true);
    lab.netd(&["publish", "--replace", "5353:53/udp", &green]).ok();
    udp_answers(&socket, &to, true);
    // A new flow goes to the new target, where no process listens.
    let other = lab.client.run(|| udp_socket(SILENCE));
    udp_answers(&other, &to, false);
}

#[test]
fn a_killed_replacement_keeps_the_old_target() {
    let lab = Lab::new();
    let (blue, green) = (lab.container("blue", &[]), lab.container("green", &[]));
    let _servers = (named(&sandbox(&blue), "blue"), named(&sandbox(&green), "green"));
    for spec in ["8000-8999:80-1079", &format!("{HOST_OUTSIDE}:9000:80")] {
        lab.netd(&["publish", spec, &blue]).ok();
    }
    let greets = || {
        let near = lab.client.run(|| tcp_first_line(&format!("{HOST}:8000"), PATIENCE)).unwrap();
        (near, lab.outside.run(|| tcp_first_line(&format!("{HOST_OUTSIDE}:9000"), PATIENCE)).unwrap())
    };
    let mut now = greets();
    let target = |name: &str| if name == "blue" { &green } else { &blue };
    for step in 0..40 {
        for (spec, port, name) in [
            ("8000-8999:80-1079", 8000, now.0.clone()),
            (&*format!("{HOST_OUTSIDE}:9000:80"), 9000, now.1.clone()),
        ] {
            lab.netd_killed(
                &["publish", "--replace", spec, target(&name)],
                Duration::from_micros(600 * step),
            );
            lab.netd(&["sync"]).ok();
            let shown = lab.port("tcp", port);
            assert_eq!(shown["draining"], false);
            let (near, far) = greets();
            let greeted = if port == 8000 { &near } else { &far };
            assert!(shown["target"].as_str().unwrap().ends_with(greeted.as_str()), "{step}: {shown}");
            now = (near, far);
        }
    }
    lab.netd(&["unpublish", "--all"]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8000"), SILENCE)).is_err());
}
