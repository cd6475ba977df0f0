//! The size of the flow tables.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;

use aya::maps::MapInfo;
use netd_common::abi::{capacity, name};
use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, Server};

/// How many rows the kernel has given each of the flow tables.
fn rows(lab: &Lab) -> Vec<u32> {
    let pins = lab.netd(&["--json", "status"]).ok().json()["pins"].as_str().unwrap().to_owned();
    [name::FLOWS, name::FLOWS6, name::UNREPLIED, name::UNREPLIED6]
        .iter()
        .map(|table| MapInfo::from_pin(Path::new(&pins).join("maps").join(table)).unwrap().max_entries())
        .collect()
}

/// One short connection, which the server ends.
fn greeted() -> std::io::Result<()> {
    let stream = TcpStream::connect((HOST, 8080))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    assert_eq!(line, "hello\n");
    Ok(())
}

#[test]
fn a_small_table_serves_more_connections_than_it_holds() {
    let lab = Lab::new();
    let web = lab.name("web");
    lab.netd(&["set", "max-connections=1000"]).ok();
    lab.netd(&["container", "add", &web, "-p", "8080:80"]).ok();
    assert_eq!(rows(&lab), [2000, 1024, 1024, 1024]);
    let _server = Server::tcp(&sandbox(&web), 80, |mut stream, _| {
        let _sent = stream.write_all(b"hello\n");
    });
    let failed = lab.client.run(|| (0..4_000).filter(|_| greeted().is_err()).count());
    assert_eq!(failed, 0);
    assert_eq!(lab.port("tcp", 8080)["flows"]["total"], 4_000);
    let flows = lab.netd(&["--json", "status"]).ok().json()["flows"].clone();
    assert_eq!((&flows["capacity"], &flows["max_connections"]), (&5072.into(), &1000.into()));
    // What has ended gives way to what is new.
    let rows = flows["rows"].as_u64().unwrap();
    assert!((400..=1024).contains(&rows), "{flows}");
}

#[test]
fn tables_have_the_requested_size() {
    let lab = Lab::new();
    let web = lab.name("web");
    lab.netd(&["set", "max-connections=300000"]).ok();
    lab.netd(&["container", "add", &web]).ok();
    assert_eq!(rows(&lab), [600_000, 150_000, 150_000, 75_000]);
    let said = lab.netd(&["status"]).ok().stdout;
    assert!(said.contains("of 975000 rows, for 300000 connections"), "{said}");
    // Another size is refused; the same size is accepted.
    for connections in ["1000", "131072", "auto"] {
        lab.netd(&["set", &format!("max-connections={connections}")])
            .fails(1, "the tables have room for 300000 connections");
    }
    lab.netd(&["set", "max-connections=300000"]).ok();
    // `down` removes the setting too, and the next command makes tables of the usual size.
    lab.netd(&["down"]).ok();
    lab.netd(&["container", "add", &web]).ok();
    let standard: Vec<u32> = capacity::flows(capacity::CONNECTIONS).iter().map(|table| table.rows).collect();
    assert_eq!(rows(&lab), standard);
    for senseless in ["0", "999", "16777217", "many"] {
        lab.netd(&["set", &format!("max-connections={senseless}")]).fails(2, senseless);
    }
}
