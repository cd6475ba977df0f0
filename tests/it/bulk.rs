//! Load: many connections, datagrams of every size, and real programs.

use std::io::{Read, Write};
use std::net::TcpStream;

use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server, udp_ask, udp_socket};
use netd_tests::stream::block;
use netd_tests::wait_for;

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
    std::fs::write(folder.join("block"), block()).unwrap();
    let _nginx = netd_tests::nginx::start(&lab, &web, folder, "listen 80;");
    let place = folder.display();
    let fetch = format!(
        "curl -sS -m 60 --retry 20 --retry-delay 0 --retry-connrefused -o {place}/got http://{HOST}:8080/block"
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
        wait_for("iperf3 to run", PATIENCE, || {
            report = serde_json::from_slice(&lab.client.try_sh(&line).stdout).unwrap_or_default();
            report["error"].is_null() && !report["end"].is_null()
        });
        let sum = if report["end"]["sum_received"].is_null() { "sum" } else { "sum_received" };
        assert!(report["end"][sum]["bytes"].as_f64().unwrap() > 1e6, "{options}: {}", report["end"]);
    }
}
