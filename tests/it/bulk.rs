//! Much of it: large transfers, many connections, every size, and real programs.

use std::hash::Hasher;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::Netns;
use netd_tests::probe::{PATIENCE, Server, udp_ask, udp_socket};
use netd_tests::wait_for;

const GIB: u64 = 1 << 30;

fn sandbox(name: &str) -> PathBuf {
    Path::new("/run/netns").join(name)
}

/// A block of a stream that repeats at no power of two, so that a lost or doubled packet changes everything after it.
fn block() -> Vec<u8> {
    (0..1_048_573_u32).map(|n| n.wrapping_mul(2_654_435_761).to_ne_bytes()[2]).collect()
}

/// Sends a GiB and returns what it hashes to.
fn send(mut stream: TcpStream) -> u64 {
    let block = block();
    let mut hash = std::hash::DefaultHasher::new();
    let mut left = GIB;
    while left > 0 {
        let part = &block[..usize::try_from(left).unwrap().min(block.len())];
        stream.write_all(part).expect("send");
        hash.write(part);
        left -= part.len() as u64;
    }
    stream.shutdown(Shutdown::Write).expect("shutdown");
    hash.finish()
}

/// Reads to the end and returns how much it was and what it hashes to; hashed in the sender's blocks.
fn receive(mut stream: TcpStream) -> (u64, u64) {
    let mut hash = std::hash::DefaultHasher::new();
    let (mut total, mut filled) = (0, 0);
    let mut buffer = vec![0; block().len()];
    loop {
        let len = stream.read(&mut buffer[filled..]).expect("receive");
        filled += len;
        total += len as u64;
        if len == 0 || filled == buffer.len() {
            if filled > 0 {
                hash.write(&buffer[..filled]);
            }
            filled = 0;
        }
        if len == 0 {
            return (total, hash.finish());
        }
    }
}

fn transfer_in(from: &Netns, to: &str, lab: &Lab, name: &str) {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let _server = Server::tcp(&sandbox(name), 80, move |stream, _| {
        tell.lock().unwrap().send(receive(stream)).unwrap();
    });
    let sent = from.run(|| send(TcpStream::connect(to).unwrap()));
    let (len, received) = told.recv_timeout(Duration::from_mins(1)).unwrap();
    assert_eq!((len, received), (GIB, sent));
    drop(lab.netd(&["ports"]).ok());
}

fn transfer_out(to_netns: &Netns, to: &str, name: &str) {
    let (tell, told) = std::sync::mpsc::channel();
    let tell = std::sync::Mutex::new(tell);
    let _server = Server::tcp(&sandbox(name), 80, move |stream, _| {
        tell.lock().unwrap().send(send(stream)).unwrap();
    });
    let (len, received) = to_netns.run(|| receive(TcpStream::connect(to).unwrap()));
    let sent = told.recv_timeout(Duration::from_mins(1)).unwrap();
    assert_eq!((len, received), (GIB, sent));
}

#[test]
fn a_gib_arrives_whole_in_each_direction_from_outside() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    transfer_in(&lab.client, &format!("{HOST}:8080"), &lab, &web);
    transfer_out(&lab.client, &format!("{HOST}:8080"), &web);
    let port = lab.port("tcp", 8080);
    assert!(port["bytes"]["in"].as_u64().unwrap() > GIB, "{port}");
    assert!(port["bytes"]["out"].as_u64().unwrap() > GIB, "{port}");
    assert_eq!(port["dropped"], 0, "{port}");
}

#[test]
fn a_gib_arrives_whole_in_each_direction_from_the_host() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    transfer_in(&lab.host, "127.0.0.1:8080", &lab, &web);
    transfer_out(&lab.host, "127.0.0.1:8080", &web);
}

#[test]
fn none_of_ten_thousand_short_connections_fails() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp(&sandbox(&web), 80, |mut stream, _| {
        let mut request = [0; 4];
        let _answered = stream.read_exact(&mut request).and_then(|()| stream.write_all(&request));
    });
    let failed = lab.client.run(|| {
        (0..10_000_u32)
            .filter(|number| {
                let ask = || -> std::io::Result<bool> {
                    let mut stream = TcpStream::connect((HOST, 8080))?;
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.write_all(&number.to_ne_bytes())?;
                    let mut answer = [0; 4];
                    stream.read_exact(&mut answer)?;
                    Ok(answer == number.to_ne_bytes())
                };
                !ask().unwrap_or(false)
            })
            .count()
    });
    assert_eq!(failed, 0);
    assert_eq!(lab.port("tcp", 8080)["flows"]["total"], 10_000);
}

#[test]
fn datagrams_of_every_size_come_back() {
    let lab = Lab::new();
    let echo = lab.container("echo", &["-p", "5353:53/udp"]);
    let _server = Server::udp_echo(&sandbox(&echo), 53);
    let payload = block();
    for (netns, to) in [(&lab.client, format!("{HOST}:5353")), (&lab.host, "127.0.0.1:5353".to_owned())] {
        netns.run(|| {
            let socket = udp_socket(PATIENCE);
            for size in 0..=1472 {
                let (answer, _) =
                    udp_ask(&socket, &to, &payload[..size]).unwrap_or_else(|error| panic!("{size}: {error}"));
                assert!(answer == payload[..size], "{size} bytes came back changed");
            }
        });
    }
}

#[test]
fn nginx_serves_curl() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let folder = lab.folder.path();
    std::fs::create_dir(folder.join("www")).unwrap();
    std::fs::write(folder.join("www/block"), block()).unwrap();
    let config = folder.join("nginx.conf");
    let place = folder.display();
    std::fs::write(
        &config,
        format!(
            "daemon off; user root; pid {place}/pid; error_log stderr crit; events {{}} http {{ access_log off; \
             client_body_temp_path {place}/t; proxy_temp_path {place}/t; fastcgi_temp_path {place}/t; \
             uwsgi_temp_path {place}/t; scgi_temp_path {place}/t; server {{ listen 80; root {place}/www; }} }}"
        ),
    )
    .unwrap();
    let mut nginx = lab.command_in(&web, &format!("exec nginx -c {}", config.display()));
    let _nginx = netd_tests::netns::Process::new(&mut nginx);
    let fetch = format!(
        "curl -sS -m 10 --retry 20 --retry-delay 0 --retry-connrefused -o {place}/got http://{HOST}:8080/block"
    );
    wait_for("nginx to serve", PATIENCE, || lab.client.try_sh(&fetch).status.success());
    assert!(std::fs::read(folder.join("got")).unwrap() == block());
}

#[test]
fn iperf3_runs_both_ways() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "5201:5201", "-p", "5201:5201/udp"]);
    let mut server = lab.command_in(&web, "exec iperf3 -s");
    server.stdout(std::process::Stdio::null());
    let _server = netd_tests::netns::Process::new(&mut server);
    for options in ["", "-R", "-u -b 50M", "-u -b 50M -R"] {
        let line = format!("iperf3 -J -t 1 -c {HOST} {options}");
        let mut report = serde_json::Value::Null;
        wait_for("iperf3 to run", Duration::from_secs(15), || {
            report = serde_json::from_slice(&lab.client.try_sh(&line).stdout).unwrap_or_default();
            report["error"].is_null() && !report["end"].is_null()
        });
        let sum = if report["end"]["sum_received"].is_null() { "sum" } else { "sum_received" };
        assert!(report["end"][sum]["bytes"].as_f64().unwrap() > 1e6, "{options}: {}", report["end"]);
    }
}

#[test]
fn dig_asks_a_name_server_by_udp_and_tcp() {
    let lab = Lab::new();
    let dns = lab.container("dns", &["-p", "53:53/udp", "-p", "53:53/tcp"]);
    let line = "exec dnsmasq --no-daemon --no-resolv --no-hosts --conf-file=/dev/null --user=root \
                --address=/netd.test/192.0.2.7 --log-facility=/dev/null";
    let mut dnsmasq = lab.command_in(&dns, line);
    dnsmasq.stderr(std::process::Stdio::null());
    let _dnsmasq = netd_tests::netns::Process::new(&mut dnsmasq);
    for (netns, server) in [(&lab.client, HOST), (&lab.host, "127.0.0.1")] {
        for transport in ["+notcp", "+tcp"] {
            let line = format!("dig +short +time=1 +tries=1 {transport} @{server} www.netd.test A");
            wait_for("an answer", PATIENCE, || netns.try_sh(&line).stdout == b"192.0.2.7\n");
        }
    }
}
