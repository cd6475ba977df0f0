//! Each step of each command is a fail point: the command is killed before it, or the step fails.
//!
//! A few steps of each command are drawn each time; `NETD_STEPS=all` takes them all.

use std::fs;
use std::time::Duration;

use aya::maps::{Array, LpmTrie, Map, MapData};
use netd_common::abi::{SourceKey, name};
use netd_common::flow::{State, tick};
use netd_tests::lab::Lab;
use netd_tests::snapshot::Snapshot;
use netd_tests::steps::{self, Fate, Traced};
use nix::errno::Errno;

use crate::traffic::Traffic;

/// How many steps of each command are tried.
const TRIED: usize = 8;
/// Between two datagrams of those whom no command concerns.
const PAUSE: Duration = Duration::from_millis(1);

/// The steps to be tried, spread over all there are.
fn tried(steps: usize) -> Vec<usize> {
    if steps <= TRIED || std::env::var("NETD_STEPS").is_ok_and(|which| which == "all") {
        return (0..steps).collect();
    }
    let mut rng = fastrand::Rng::new();
    (0..TRIED).map(|part| rng.usize(part * steps / TRIED..(part + 1) * steps / TRIED)).collect()
}

/// A command, what is done before it, and what takes it back.
struct Case {
    before: Vec<String>,
    command: String,
    after: Vec<String>,
}

impl Case {
    /// Whether it takes something away. What has gone does not come back if a later step fails, and the next command takes the
    /// rest away.
    fn removes(&self) -> bool {
        [" rm ", "unpublish ", " disconnect "].iter().any(|verb| self.command.contains(verb))
    }
}

fn case(before: &[&str], command: &str, after: &[&str]) -> Case {
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect();
    Case { before: owned(before), command: command.to_owned(), after: owned(after) }
}

fn words(line: &str) -> Vec<&str> {
    line.split_ascii_whitespace().collect()
}

/// A lab with a container that none of the commands concerns, and one that they do.
struct Ground {
    lab: Lab,
    steady: String,
}

impl Ground {
    fn new(clsact: bool) -> Self {
        let mut lab = Lab::new();
        lab.clsact = clsact;
        let steady = lab.container("steady", &["-p", "8080:80", "-p", "8080:80/udp"]);
        lab.container("other", &["-p", "8081:80"]);
        Self { lab, steady }
    }

    /// Commands that change something, each of its kind.
    fn cases(&self) -> Vec<Case> {
        let Self { lab, steady } = self;
        let [victim, other] = ["victim", "other"].map(|label| lab.name(label));
        let add = format!("container add {victim} -p 9000-9003:80-83 -p 127.0.0.1:9500:80/udp");
        let remove = format!("container rm {victim}");
        let publish = format!("publish 9600-9603:80-83 9600:80/udp {other}");
        let replace = format!("publish --replace 9600-9603:90-93 {steady}");
        let unpublish = "unpublish 9600-9603 9600/udp";
        let network = "network create victims --subnet 10.99.0.0/24 --subnet fd99::/64";
        let [connect, disconnect] =
            ["connect", "disconnect"].map(|verb| format!("network {verb} victims {other}"));
        let forward = "publish 9700:80 198.19.0.2";
        let file = lab.folder.path().join("netd.toml");
        let saved = self.saved();
        let more = format!(
            "{saved}\n[[network]]\nname = \"victims\"\nsubnets = [\"10.99.0.0/24\"]\n\n\
             [[container]]\nname = \"{victim}\"\nnetworks = [\"victims\"]\npublish = [\"9600:80\"]\n"
        );
        fs::write(&file, more).unwrap();
        let apply = format!("apply {}", file.display());
        vec![
            case(&[], &add, &[&remove]),
            case(&[&add], &remove, &[&remove]),
            case(&[], &publish, &[unpublish]),
            case(&[&publish], &replace, &[unpublish]),
            case(&[&publish], unpublish, &[unpublish]),
            case(&[], network, &["network rm victims"]),
            case(&[network], "network rm victims", &["network rm victims"]),
            case(&[network], &connect, &[&disconnect, "network rm victims"]),
            case(&[network, &connect], &disconnect, &[&disconnect, "network rm victims"]),
            case(&[], forward, &["unpublish 9700"]),
            case(&[], &apply, &[&remove, "network rm victims"]),
            case(&[], "timeouts echo=7s", &["timeouts --reset"]),
            case(&[], "quota 50%", &["quota 80%"]),
            case(&[], "access --deny 192.0.2.13", &["access --open"]),
            case(&[], "set uplinks=up0,up1", &["set uplinks=auto"]),
        ]
    }

    fn saved(&self) -> String {
        self.lab.netd(&["save"]).ok().stdout
    }

    #[track_caller]
    fn netd(&self, line: &str) {
        self.lab.netd(&words(line)).ok();
    }

    fn traced(&self, line: &str, fate: Fate) -> Traced {
        steps::run(&self.lab.netd_command(&words(line)), fate)
    }

    /// Runs a command to its end; returns its steps, and the records before and after it. Everything is as `host` then.
    #[track_caller]
    fn learn(&self, case: &Case, host: &Snapshot) -> (Vec<String>, [String; 2]) {
        self.prepare(case);
        let before = self.saved();
        let Traced { steps, code, stderr } = self.traced(&case.command, Fate::Ends);
        assert_eq!(code, Some(0), "netd {}: {stderr}", case.command);
        let after = self.saved();
        let left = self.take_back(case, host);
        assert!(left.is_empty(), "netd {}: {left:?}", case.command);
        (steps, [before, after])
    }

    #[track_caller]
    fn prepare(&self, case: &Case) {
        for line in &case.before {
            self.netd(line);
        }
    }

    /// Takes back what a command has done or not; returns what is left of it.
    fn take_back(&self, case: &Case, before: &Snapshot) -> Vec<String> {
        for line in &case.after {
            let _maybe_gone = self.lab.netd(&words(line));
        }
        Snapshot::of(&self.lab).differences(before)
    }

    /// Fails unless nothing differs from the records.
    #[track_caller]
    fn is_whole(&self, told: &str) {
        let said = self.lab.netd(&["check"]);
        assert!(said.status.success(), "{told}: {}{}", said.stdout, said.stderr);
    }
}

/// What is told of a failure.
fn told(case: &Case, Traced { steps, code, stderr }: &Traced, number: usize) -> String {
    let step = steps.get(number).map_or("its end", String::as_str);
    format!("netd {}: at step {number} ({step}), ended with {code:?}: {stderr}", case.command)
}

fn the_next_command_puts_right_what_a_killed_one_has_left(clsact: bool) {
    let ground = Ground::new(clsact);
    Traffic::new(&ground.lab, &ground.steady).beside_datagrams(PAUSE, || {
        let host = Snapshot::of(&ground.lab);
        for case in ground.cases() {
            let (steps, records) = ground.learn(&case, &host);
            for number in tried(steps.len()) {
                ground.prepare(&case);
                let traced = ground.traced(&case.command, Fate::Dies(number));
                let told = told(&case, &traced, number);
                ground.netd("sync");
                ground.is_whole(&told);
                let found = ground.saved();
                assert!(records.contains(&found), "{told}: done in part: {found}");
                let left = ground.take_back(&case, &host);
                assert!(left.is_empty(), "{told}: {left:?}");
            }
        }
    });
}

#[test]
fn the_next_command_puts_right_what_one_has_left_that_was_killed_at_any_step() {
    the_next_command_puts_right_what_a_killed_one_has_left(false);
}

#[test]
fn the_next_command_puts_right_what_one_has_left_that_was_killed_at_any_step_on_clsact() {
    the_next_command_puts_right_what_a_killed_one_has_left(true);
}

#[test]
fn the_next_command_writes_timeouts_that_were_only_recorded() {
    let ground = Ground::new(false);
    let in_table = || {
        let map = MapData::from_pin(ground.lab.pins().join("maps").join(name::TIMEOUTS)).unwrap();
        let rows: Array<_, u32> = Map::Array(map).try_into().unwrap();
        rows.get(&(State::Echo as u32), 0).unwrap()
    };
    let (default, changed) = (in_table(), tick::of_seconds(7));
    let change = "timeouts echo=7s";
    let steps = ground.traced(change, Fate::Ends).steps.len();
    for number in 0..steps {
        ground.netd("timeouts --reset");
        ground.traced(change, Fate::Dies(number));
        ground.netd("sync");
        let recorded = if ground.saved().contains("echo = \"7s\"") { changed } else { default };
        assert_eq!(in_table(), recorded, "killed at step {number}");
    }
}

#[test]
fn a_repeated_command_replaces_access_lists_that_a_killed_one_has_left() {
    let ground = Ground::new(false);
    let rows = || {
        let map = MapData::from_pin(ground.lab.pins().join("maps").join(name::SOURCES)).unwrap();
        let rows: LpmTrie<_, [u8; size_of::<SourceKey>()], u32> = Map::LpmTrie(map).try_into().unwrap();
        rows.keys().count()
    };
    let [first, change] = ["192.0.2.0/24", "198.51.100.0/24"].map(|net| format!("access --allow {net}"));
    ground.netd(&first);
    // The list, and what applies to all others.
    assert_eq!(rows(), 2);
    let steps = ground.traced(&change, Fate::Ends).steps.len();
    for number in 0..steps {
        ground.netd(&first);
        ground.traced(&change, Fate::Dies(number));
        ground.netd(&change);
        assert_eq!(rows(), 2, "killed at step {number}");
    }
    ground.netd("access --open");
    assert_eq!(rows(), 0);
}

/// An error that a step may meet.
fn error(step: &str) -> Errno {
    if step.starts_with("bpf") || step.starts_with("netlink") { Errno::ENOMEM } else { Errno::ENOSPC }
}

#[test]
fn a_command_with_a_step_that_fails_is_undone_or_done() {
    let ground = Ground::new(false);
    Traffic::new(&ground.lab, &ground.steady).beside_datagrams(PAUSE, || {
        let host = Snapshot::of(&ground.lab);
        for case in ground.cases() {
            let (steps, [before, after]) = ground.learn(&case, &host);
            for number in tried(steps.len()) {
                ground.prepare(&case);
                let traced = ground.traced(&case.command, Fate::Fails(number, error(&steps[number])));
                let told = told(&case, &traced, number);
                if case.removes() && traced.code != Some(0) {
                    ground.netd("sync");
                }
                ground.is_whole(&told);
                let (is_done, found) = (traced.code == Some(0), ground.saved());
                let may_be = found == before && !is_done || found == after && (is_done || case.removes());
                assert!(may_be, "{told}: {found}");
                let left = ground.take_back(&case, &host);
                assert!(left.is_empty(), "{told}: {left:?}");
            }
        }
    });
}

/// Kills a command that comes after another one, or first, at its steps; `down` leaves the host as it was. `NAME` in them is that
/// of a container.
fn leaves_nothing(clsact: bool, first: Option<&str>, command: &str) {
    let mut lab = Lab::new();
    lab.clsact = clsact;
    let before = Snapshot::of(&lab);
    let name = lab.name("web");
    let named = |line: &str| line.replace("NAME", &name);
    let command = named(command);
    let prepare = || first.map(|line| lab.netd(&words(&named(line))).ok());
    prepare();
    let steps = steps::run(&lab.netd_command(&words(&command)), Fate::Ends).steps.len();
    lab.netd(&["down"]).ok();
    for number in tried(steps) {
        prepare();
        let traced = steps::run(&lab.netd_command(&words(&command)), Fate::Dies(number));
        lab.netd(&["down"]).ok();
        let differences = Snapshot::of(&lab).differences(&before);
        let step = traced.at(Fate::Dies(number)).unwrap_or("its end");
        assert!(differences.is_empty(), "netd {command}, killed at step {number} ({step}): {differences:?}");
    }
}

const FIRST: &str = "container add NAME -p 8080:80 -p 8080:80/udp";

#[test]
fn down_removes_what_a_first_command_has_left_that_was_killed_at_any_step() {
    leaves_nothing(false, None, FIRST);
}

#[test]
fn down_removes_what_a_first_command_has_left_that_was_killed_at_any_step_on_clsact() {
    leaves_nothing(true, None, FIRST);
}

#[test]
fn down_goes_on_where_one_was_killed_at_any_step() {
    leaves_nothing(false, Some(FIRST), "down");
}

#[test]
fn down_goes_on_where_one_was_killed_at_any_step_on_clsact() {
    leaves_nothing(true, Some(FIRST), "down");
}
