//! Programs of another version take over while traffic goes on.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use netd_tests::lab::{HOST, Lab, OUTSIDE};
use netd_tests::netns::{Process, run_in, sandbox};
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line};
use netd_tests::snapshot::Snapshot;
use netd_tests::{netd_binary, other_layout_binary, patched_binary, wait_for};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::Value;

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

/// A connection that asks and is answered, again and again. Its end frees its port at once.
struct Echo {
    stream: TcpStream,
}

impl Echo {
    fn to(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        let mut line = Self { stream };
        line.read_line();
        line
    }

    fn read_line(&mut self) {
        let mut byte = [0];
        while byte != [b'\n'] {
            self.stream.read_exact(&mut byte).unwrap();
        }
    }

    fn ask(&mut self) {
        self.stream.write_all(b"still there?\n").unwrap();
        self.read_line();
    }
}

/// Traffic of all kinds through a lab, in which nothing is lost.
struct Traffic<'a> {
    lab: &'a Lab,
    web: String,
    stop: AtomicBool,
    /// New connections, and datagrams that were answered.
    connections: AtomicU64,
    datagrams: AtomicU64,
}

/// Half of the connections that only wait.
const IDLE: usize = 100;

impl<'a> Traffic<'a> {
    fn new(lab: &'a Lab, web: &str) -> Self {
        let (connections, datagrams) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { lab, web: web.to_owned(), stop: AtomicBool::new(false), connections, datagrams }
    }

    fn inbound() -> String {
        format!("{HOST}:8080")
    }

    fn outbound() -> String {
        format!("{OUTSIDE}:7")
    }

    /// Runs `work` beside it.
    fn beside(&self, work: impl FnOnce()) {
        let (client, inside) = (self.lab.client.path(), sandbox(&self.web));
        let _servers = [
            Server::tcp_echo(&inside, 80),
            Server::udp_echo(&inside, 80),
            Server::tcp_echo(&self.lab.outside.path(), 7),
            Server::udp_echo(&self.lab.outside.path(), 7),
        ];
        let mut server = self.lab.command_in(&self.web, "exec iperf3 -s");
        let _iperf_server = Process::new(server.stdout(Stdio::null()));
        let mut bulk = self.bulk();
        let idle =
            |at: &Path, to: String| run_in(at, || (0..IDLE).map(|_| Echo::to(&to)).collect::<Vec<_>>());
        let waiting = [idle(&client, Self::inbound()), idle(&inside, Self::outbound())];
        thread::scope(|scope| {
            for (at, to) in [(&client, Self::inbound()), (&inside, Self::outbound())] {
                let addresses = to.clone();
                scope.spawn(move || run_in(at, || self.new_connections(&addresses)));
                scope.spawn(move || run_in(at, || self.datagrams(&to)));
            }
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            self.stop.store(true, Ordering::Relaxed);
            if let Err(panic) = done {
                std::panic::resume_unwind(panic);
            }
        });
        for mut one in waiting.into_iter().flatten() {
            one.ask();
        }
        assert!(bulk.try_wait().unwrap().is_none(), "iperf3 has ended before it was told to");
        bulk.kill().unwrap();
        bulk.wait().unwrap();
        assert!(self.connections.load(Ordering::Relaxed) > 0 && self.datagrams.load(Ordering::Relaxed) > 0);
    }

    /// A stream that goes on until it is killed.
    fn bulk(&self) -> std::process::Child {
        let line = format!("exec iperf3 -t 3600 -b 200M -c {HOST} -p 5201");
        let mut started = None;
        wait_for("iperf3 to run", PATIENCE, || {
            let mut command = self.lab.client.command("sh");
            let child: &mut Command = command.args(["-c", &line]).stdout(Stdio::null());
            let mut child = child.spawn().unwrap();
            let received = || self.lab.port("tcp", 5201)["bytes"]["in"].as_u64().unwrap();
            let begun = received();
            let is_there = || received() > begun + 1_000_000;
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                if is_there() {
                    started = Some(child);
                    return true;
                }
            }
            false
        });
        started.unwrap()
    }

    /// Every new connection must be there at once.
    fn new_connections(&self, to: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            Echo::to(to).ask();
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every datagram must be answered: the next one waits for that.
    fn datagrams(&self, to: &str) {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(to).unwrap();
        let mut number = 0_u64;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            socket.send(&number.to_be_bytes()).unwrap();
            let mut answer = [0; 8];
            let len = socket
                .recv(&mut answer)
                .unwrap_or_else(|why| panic!("datagram {number} to {to} is lost: {why}"));
            assert_eq!(answer[..len], number.to_be_bytes(), "{to}");
            self.datagrams.fetch_add(1, Ordering::Relaxed);
        }
    }
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
