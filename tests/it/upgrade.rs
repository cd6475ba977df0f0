//! Programs of another version take over while traffic goes on.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::{Process, run_in, sandbox};
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line};
use netd_tests::snapshot::Snapshot;
use netd_tests::{netd_binary, other_layout_binary, patched_binary, wait_for};
use serde_json::Value;

use crate::traffic::{Echo, IDLE, Traffic};

/// How often each version takes over; `NETD_UPGRADES` asks for more.
fn upgrades() -> usize {
    std::env::var("NETD_UPGRADES").ok().map_or(3, |count| count.parse().unwrap())
}

/// The digest of the programs of this netd. Asked on another host, since the command puts them in place.
fn own_digest(lab: &Lab) -> String {
    let elsewhere = Lab::new();
    let told = lab.netd_in(&elsewhere.host, &elsewhere.state_dir(), &["--json", "upgrade"]).ok().json();
    told["programs"]["digest"].as_str().unwrap().to_owned()
}

/// Another build of the same netd: its programs are the same but for their digest, and these texts.
fn other_build(lab: &Lab, texts: &[(&str, &str)]) -> PathBuf {
    let digest = own_digest(lab);
    let other: String = digest.chars().rev().collect();
    let at = lab.folder.path().join("other-netd");
    patched_binary(&at, &[&[(digest.as_str(), other.as_str())], texts].concat());
    at
}

/// The version of the programs that are loaded.
fn loaded(lab: &Lab) -> Value {
    lab.netd(&["--json", "status"]).ok().json()["version"].clone()
}

/// A lab, and the netd that its commands are of.
fn lab(clsact: bool) -> (Lab, PathBuf) {
    let mut lab = Lab::new();
    lab.clsact = clsact;
    (lab, netd_binary())
}

/// Lets two versions take over in turns while there is traffic.
fn take_over(lab: &Lab, own: &Path, other: &Path) {
    let web = lab.container("web", &["-p", "8080:80", "-p", "8080:80/udp", "-p", "5201:5201"]);
    let digest = own_digest(lab);
    Traffic::new(lab, &web).beside(|| {
        for binary in [other, own].into_iter().cycle().take(2 * upgrades()) {
            let told = lab.netd_of(binary, &["--json", "upgrade"]).ok().json();
            assert_eq!(told["replaced"].as_array().unwrap().len(), 1, "{told}");
        }
    });
    assert_eq!(loaded(lab)["digest"], digest.as_str());
    assert_whole(lab);
    let after = lab.port("tcp", 8080);
    assert!(after["flows"]["total"].as_u64().unwrap() >= IDLE as u64, "counters go on: {after}");
}

/// Fails if something differs from the records, or if pins of another set are left.
#[track_caller]
fn assert_whole(lab: &Lab) {
    assert_eq!(lab.netd(&["check"]).ok().stdout, "nothing differs from the records\n");
    let pins = lab.pins();
    let own = pins.file_name().unwrap().to_str().unwrap();
    let names = fs::read_dir(pins.parent().unwrap()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let left: Vec<_> = names.filter(|name| name.starts_with(own)).collect();
    assert_eq!(left, [own]);
}

#[test]
fn another_build_takes_over() {
    let (lab, own) = lab(false);
    let other = other_build(&lab, &[]);
    take_over(&lab, &own, &other);
}

#[test]
fn another_build_takes_over_on_clsact() {
    let (lab, own) = lab(true);
    let other = other_build(&lab, &[]);
    take_over(&lab, &own, &other);
}

#[test]
fn programs_with_rows_of_another_form_take_over() {
    let (lab, own) = lab(false);
    take_over(&lab, &own, &other_layout_binary());
}

#[test]
fn programs_with_rows_of_another_form_take_over_on_clsact() {
    let (lab, own) = lab(true);
    take_over(&lab, &own, &other_layout_binary());
}

/// A published web server that says hello, and how often the client has heard it.
fn serve(lab: &Lab) -> (String, Server) {
    let web = lab.container("web", &["-p", "8080:80"]);
    let server = Server::tcp_echo(&sandbox(&web), 80);
    (web, server)
}

/// Fails unless the client reaches the published port, and a container the machine outside.
#[track_caller]
fn assert_served(lab: &Lab, web: &str) {
    lab.client.run(|| Echo::to(&Traffic::inbound()).ask());
    let _server = Server::tcp_echo(&lab.outside.path(), 7);
    run_in(&sandbox(web), || Echo::to(&Traffic::outbound()).ask());
}

/// Kills commands of two versions in turns, at moments all over the time that they need.
fn killed(clsact: bool, other: impl FnOnce(&Lab) -> PathBuf) {
    const MOMENTS: u32 = 12;
    let (lab, own) = lab(clsact);
    let other = other(&lab);
    let (web, _server) = serve(&lab);
    let start = Instant::now();
    lab.netd_of(&other, &["upgrade"]).ok();
    let whole = start.elapsed();
    let mut old = lab.client.run(|| Echo::to(&Traffic::inbound()));
    for moment in 0..MOMENTS {
        let binary = if moment % 2 == 0 { &own } else { &other };
        lab.netd_killed_of(binary, &["upgrade"], whole * moment / MOMENTS);
        // Nobody waits for the next command.
        old.ask();
        assert_served(&lab, &web);
    }
    lab.netd(&["sync"]).ok();
    assert_eq!(loaded(&lab)["digest"], own_digest(&lab).as_str());
    assert_whole(&lab);
    old.ask();
    assert_served(&lab, &web);
}

#[test]
fn the_next_command_goes_on_where_one_was_killed() {
    killed(false, |lab| other_build(lab, &[]));
}

#[test]
fn the_next_command_goes_on_where_one_was_killed_on_clsact() {
    killed(true, |lab| other_build(lab, &[]));
}

#[test]
fn the_next_command_goes_on_where_one_was_killed_that_carried_rows_over() {
    killed(false, |_lab| other_layout_binary());
}

#[test]
fn down_removes_what_a_killed_command_has_left_of_two_versions() {
    let (lab, _own) = lab(false);
    let other = other_layout_binary();
    for part in [4, 6, 7] {
        let before = Snapshot::of(&lab);
        let (_web, server) = serve(&lab);
        let start = Instant::now();
        lab.netd_of(&other, &["upgrade"]).ok();
        lab.netd_killed(&["upgrade"], start.elapsed() * part / 8);
        drop(server);
        lab.netd(&["down"]).ok();
        Snapshot::of(&lab).assert_same_as(&before);
    }
}

#[test]
fn programs_that_do_not_load_change_nothing() {
    let (lab, _own) = lab(false);
    let digest = own_digest(&lab);
    // The kernel refuses helpers to programs without a licence that allows them.
    let broken = other_build(&lab, &[("Dual MIT/GPL", "Proprietary.")]);
    let (web, _server) = serve(&lab);
    let said = lab.netd_of(&broken, &["publish", "8081:80", &web]).ok();
    assert!(said.stderr.contains("the programs of netd") && said.stderr.contains("stay"), "{}", said.stderr);
    assert_eq!(loaded(&lab)["digest"], digest.as_str());
    assert_served(&lab, &web);
    lab.client.run(|| Echo::to(&format!("{HOST}:8081")).ask());
    assert_whole(&lab);
}

/// The process that follows the host, as `netd status` shows it.
fn follower(lab: &Lab) -> i64 {
    lab.netd(&["--json", "status"]).ok().json()["follower"]["pid"].as_i64().unwrap_or(0)
}

#[test]
fn the_follower_of_another_version_gives_way() {
    let (mut lab, _own) = lab(false);
    let other = other_build(&lab, &[]);
    lab.follows = true;
    let (web, _server) = serve(&lab);
    let mut first = 0;
    wait_for("the follower", PATIENCE, || {
        first = follower(&lab);
        first != 0
    });
    let digest = own_digest(&lab);
    lab.netd_of(&other, &["upgrade"]).ok();
    wait_for("another follower", PATIENCE, || ![0, first].contains(&follower(&lab)));
    // It does not put the programs of before back: what it repairs it repairs with those of its own version.
    lab.host.ip("address add 198.18.0.77/24 dev up0");
    wait_for("the new address", PATIENCE, || {
        lab.client.run(|| tcp_first_line("198.18.0.77:8080", SILENCE)).is_ok()
    });
    assert_ne!(loaded(&lab)["digest"], digest.as_str());
    lab.netd(&["upgrade"]).ok();
    assert_eq!(loaded(&lab)["digest"], digest.as_str());
    assert_served(&lab, &web);
}

#[test]
fn a_service_of_another_version_ends_so_that_its_manager_starts_the_new_one() {
    let (lab, _own) = lab(false);
    let other = other_build(&lab, &[]);
    let _web = serve(&lab);
    let mut service = Process::new(&mut lab.netd_command(&["serve"]));
    wait_for("the service", PATIENCE, || follower(&lab) != 0);
    lab.netd_of(&other, &["upgrade"]).ok();
    assert_eq!(service.wait().code(), Some(1));
    assert_ne!(loaded(&lab)["digest"], own_digest(&lab).as_str());
    // It begins by putting its own programs in place.
    let _service = Process::new(&mut lab.netd_command(&["serve"]));
    wait_for("the programs of the service", PATIENCE, || loaded(&lab)["own"] == true);
}
