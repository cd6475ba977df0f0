//! Programs that the tests start inherit no descriptors of the tests.

use std::net::TcpStream;
use std::process::Command;

use netd_tests::descriptors::leaking;
use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::{Process, sandbox};
use netd_tests::probe::{PATIENCE, Server, tcp_first_line, tcp_from, tcp_on, udp_on, when_free};
use netd_tests::tap::{self, Tap};
use netd_tests::wait_for;
use nix::sys::socket::AddressFamily;

#[test]
fn programs_that_tests_start_inherit_no_descriptors() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let (_tcp, _udp) = (Server::tcp_echo(&sandbox(&web), 80), Server::udp_echo(&sandbox(&web), 53));
    let to = format!("{HOST}:8080");
    assert!(lab.client.run(|| tcp_first_line(&to, PATIENCE)).is_ok());
    let _long = lab.client.run(|| TcpStream::connect(&to).unwrap());
    let _from = lab.client.run(|| when_free(|| tcp_from(45_000, to.parse().unwrap())));
    let _bound = lab.client.run(|| (tcp_on(80), udp_on(53)));
    let _raw = lab.client.run(|| (tap::raw(AddressFamily::Inet), tap::raw(AddressFamily::Inet6)));
    let _tap = Tap::open(&lab.client.path(), "eth0");
    let _sleeper = lab.client.spawn("sleep 60");
    // This includes descriptors of other tests that run at the same time.
    let found = leaking(std::process::id());
    assert!(found.is_empty(), "{found:?}");
}

/// Shows that the check above can fail.
#[test]
fn a_leaked_descriptor_is_found() {
    let mut shell = Command::new("sh");
    let process = Process::new(shell.args(["-c", "exec 9>/dev/null; exec sleep 60"]));
    let number = process.pid().try_into().unwrap();
    wait_for("the shell to open it", PATIENCE, || leaking(number) == ["9 -> /dev/null"]);
}
