//! What a detached run prints is kept within a limit, with its exit status, and stops nobody.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use netd_tests::lab::Lab;
use netd_tests::netns::Netns;
use netd_tests::probe::PATIENCE;
use netd_tests::snapshot::Snapshot;
use netd_tests::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::disk::Disk;

/// How much is kept of a run's output, bytes (docs/usage.md).
const LIMIT: u64 = 10 * 1024 * 1024;

/// Starts a detached run of a shell script; returns its name.
fn start(lab: &Lab, label: &str, script: &str) -> String {
    let name = lab.name(label);
    lab.netd(&["run", "-d", "--name", &name, "--network", "none", "--", "sh", "-c", script]).ok();
    name
}

/// Waits for the end of a run; returns what is then told of it.
fn end_of(lab: &Lab, name: &str) -> Value {
    lab.netd(&["logs", "-f", "--tail", "0", name]).ok();
    lab.netd(&["--json", "container", "inspect", name]).ok().json()["run"].clone()
}

/// Something that a script can wait for: `read go < PATH`.
struct Gate(PathBuf);

impl Gate {
    fn new(lab: &Lab) -> Self {
        let path = lab.folder.path().join("gate");
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        Self(path)
    }

    fn wait(&self) -> String {
        format!("read go < {}", self.0.display())
    }

    fn open(&self) {
        fs::OpenOptions::new().write(true).open(&self.0).unwrap().write_all(b"go\n").unwrap();
    }
}

/// A reader that is ended with its test.
struct Reader(Child);

impl Reader {
    fn of(lab: &Lab, words: &[&str]) -> Self {
        Self(lab.netd_command(words).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _gone = self.0.kill();
        let _gone = self.0.wait();
    }
}

/// The folder of a run's output, by what is told of it.
fn folder(run: &Value) -> PathBuf {
    PathBuf::from(run["log"].as_str().unwrap())
}

#[test]
fn output_and_exit_status_are_kept_after_the_end() {
    let lab = Lab::new();
    let name = start(&lab, "job", "echo one; echo two >&2; echo three; exit 3");
    let run = end_of(&lab, &name);
    assert_eq!(run["status"], "ended");
    assert_eq!(run["exit_status"], 3);
    assert_eq!(run["signal"], Value::Null);
    assert_eq!(run["command"][2], "echo one; echo two >&2; echo three; exit 3");
    assert!(run["started"].as_str() < run["ended"].as_str(), "{run}");
    let said = lab.netd(&["logs", &name]).ok();
    assert_eq!((said.stdout.as_str(), said.stderr.as_str()), ("one\nthree\n", "two\n"));
    // The container is gone all the same.
    assert_eq!(lab.netd(&["--json", "container", "ls"]).ok().json(), json!([]));
    let all = lab.netd(&["--json", "container", "ls", "--all"]).ok().json();
    assert_eq!(all[0], json!({ "name": name, "run": run }));
    let text = lab.netd(&["container", "inspect", &name]).ok().stdout;
    assert!(text.contains("exit status: 3\n") && text.contains(&format!("netd logs {name}\n")), "{text}");
}

#[test]
fn lines_are_chosen_and_shown_as_docker_does() {
    let lab = Lab::new();
    let name = start(&lab, "job", "echo one; echo two >&2; printf three");
    end_of(&lab, &name);
    let stdout = |options: &[&str]| {
        let words = [&["logs"], options, &[name.as_str()]].concat();
        lab.netd(&words).ok().stdout
    };
    assert_eq!(stdout(&["--tail", "1"]), "three");
    assert_eq!(stdout(&["-n", "3"]), "one\nthree");
    assert_eq!(stdout(&["--tail", "all", "--since", "1h"]), "one\nthree");
    assert_eq!(stdout(&["--since", "2999-01-01"]), "");
    let lines: Vec<Value> = lab
        .netd(&["--json", "logs", &name])
        .ok()
        .stdout
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let shown: Vec<_> =
        lines.iter().map(|line| json!([line["stream"], line["text"], line["partial"]])).collect();
    // The order of two streams is that in which netd read them.
    for expected in
        [json!(["stdout", "one", false]), json!(["stderr", "two", false]), json!(["stdout", "three", true])]
    {
        assert!(shown.contains(&expected), "{shown:?}");
    }
    let timed = stdout(&["-t"]);
    let (time, text) = timed.lines().next().unwrap().split_once(' ').unwrap();
    assert_eq!((time.len(), text), ("2026-01-31T12:00:00.000000000Z".len(), "one"));
    assert_eq!(stdout(&["--since", time]), "one\nthree");
}

#[test]
fn a_follower_sees_each_line_and_ends_with_the_run() {
    let lab = Lab::new();
    let gate = Gate::new(&lab);
    let name = start(&lab, "job", &format!("echo first; {}; echo second", gate.wait()));
    let mut reader = Reader::of(&lab, &["logs", "-f", &name]);
    let mut lines = BufReader::new(reader.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(lines.next().unwrap(), "first");
    assert_eq!(lab.netd(&["logs", &name]).ok().stdout, "first\n");
    gate.open();
    assert_eq!(lines.next().unwrap(), "second");
    assert_eq!(lines.next(), None);
    assert!(reader.0.wait().unwrap().success());
}

#[test]
fn a_flood_stays_within_the_limit_and_nobody_has_to_read_it() {
    let lab = Lab::new();
    let gate = Gate::new(&lab);
    let flood = "seq -f %0500.0f 1 50000";
    let name = start(&lab, "job", &format!("{}; {flood}", gate.wait()));
    // A follower that does not go on when its pipe is full.
    let _stuck = Reader::of(&lab, &["logs", "-f", &name]);
    gate.open();
    let run = end_of(&lab, &name);
    assert_eq!((&run["exit_status"], &run["dropped_bytes"]), (&json!(0), &json!(0)));
    let size = |file: &str| fs::metadata(folder(&run).join(file)).unwrap().len();
    let (newer, older) = (size("log"), size("log.1"));
    assert!(newer <= LIMIT / 2 && older <= LIMIT / 2, "{newer} {older}");
    assert!(older > LIMIT / 2 - 100_000, "{older}");
    let mut files: Vec<_> =
        fs::read_dir(folder(&run)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["log", "log.1", "run.json"]);
    // Nothing is missing where one file ends and the other one begins.
    let said = lab.netd(&["logs", &name]).ok().stdout;
    let kept: Vec<u64> = said.lines().map(|line| line.parse().unwrap()).collect();
    assert!(kept.len() as u64 * 500 > LIMIT / 2 - 100_000, "{}", kept.len());
    let last: Vec<u64> = (50_001 - kept.len() as u64..=50_000).collect();
    assert!(kept == last, "{:?} to {:?}", kept.first(), kept.last());
}

#[test]
fn a_line_without_end_is_kept_in_pieces_and_shown_as_one() {
    let lab = Lab::new();
    let name = start(&lab, "job", "head -c 300000 /dev/zero | tr '\\0' x; echo; echo end");
    let run = end_of(&lab, &name);
    let log = fs::read_to_string(folder(&run).join("log")).unwrap();
    assert!(log.lines().all(|line| line.len() <= 16 * 1024 + 64));
    assert_eq!(lab.netd(&["logs", &name]).ok().stdout, "x".repeat(300_000) + "\nend\n");
    assert_eq!(lab.netd(&["logs", "--tail", "2", &name]).ok().stdout.len(), 300_000 + 5);
    let timed = lab.netd(&["logs", "-t", &name]).ok().stdout;
    assert_eq!(timed.matches("Z ").count(), 2, "one time for each line");
}

#[test]
fn a_full_disk_stops_no_run_and_keeps_its_exit_status() {
    let lab = Lab::new();
    let disk = Disk::at(lab.log_dir());
    let (gate, mark) = (Gate::new(&lab), lab.folder.path().join("mark"));
    // More than a pipe holds.
    let script = format!(
        "echo before; {0}; yes | head -c 200000; touch {1}; {0}; echo after; exit 5",
        gate.wait(),
        mark.display()
    );
    let name = start(&lab, "job", &script);
    wait_for("the first line", PATIENCE, || lab.netd(&["logs", &name]).ok().stdout == "before\n");
    disk.fill();
    gate.open();
    wait_for("the command to go on", PATIENCE, || mark.exists());
    let kept_and_lost = || {
        let said = lab.netd(&["logs", &name]).ok();
        let lost = said.stderr.split_whitespace().find_map(|word| word.parse::<usize>().ok());
        (said.stdout, lost.unwrap_or(0))
    };
    wait_for("everything to be read", PATIENCE, || {
        let (kept, lost) = kept_and_lost();
        kept.len() + lost == "before\n".len() + 200_000
    });
    disk.free();
    gate.open();
    let run = end_of(&lab, &name);
    let (kept, lost) = kept_and_lost();
    assert_eq!((&run["exit_status"], &run["dropped_bytes"]), (&json!(5), &json!(lost)));
    let words = kept.strip_prefix("before\n").and_then(|rest| rest.strip_suffix("after\n")).unwrap();
    assert!(words.lines().all(|word| word == "y"), "{words}");
    assert_eq!(words.len() + lost, 200_000);
    lab.netd(&["container", "rm", &name]).ok();
    lab.netd(&["logs", &name]).fails(1, "there is no output");
}

#[test]
fn a_run_whose_output_cannot_be_kept_says_so_once_and_works() {
    let lab = Lab::new();
    let disk = Disk::at(lab.log_dir());
    disk.fill();
    let (name, mark) = (lab.name("job"), lab.folder.path().join("mark"));
    let script = format!("yes | head -c 200000; touch {}", mark.display());
    let said = lab.netd(&["run", "-d", "--name", &name, "--network", "none", "--", "sh", "-c", &script]).ok();
    assert_eq!(said.stderr.matches("is not kept").count(), 1, "{}", said.stderr);
    assert!(said.stderr.contains("No space left on device"), "{}", said.stderr);
    wait_for("the run's work", PATIENCE, || mark.exists());
    lab.netd(&["logs", &name]).fails(1, "there is no output");
}

#[test]
fn only_root_can_read_it_and_no_link_is_followed() {
    use std::os::unix::fs::PermissionsExt as _;
    let lab = Lab::new();
    let name = start(&lab, "job", "echo secret");
    let run = end_of(&lab, &name);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let instance = folder(&run).parent().unwrap().to_owned();
    assert_eq!((mode(&instance), mode(&folder(&run))), (0o700, 0o700));
    for entry in fs::read_dir(folder(&run)).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    lab.netd(&["container", "rm", &name]).ok();
    assert!(!lab.log_dir().exists());
    let victim = lab.folder.path().join("victim");
    fs::create_dir_all(&victim).unwrap();
    fs::create_dir_all(lab.log_dir()).unwrap();
    std::os::unix::fs::symlink(&victim, &instance).unwrap();
    let said = lab.netd(&["run", "-d", "--name", &name, "--network", "none", "--", "true"]).ok();
    assert!(said.stderr.contains("is not kept"), "{}", said.stderr);
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

#[test]
fn a_later_run_of_the_same_name_replaces_an_earlier_one() {
    let lab = Lab::new();
    let name = start(&lab, "job", "echo first; exit 1");
    end_of(&lab, &name);
    start(&lab, "job", "echo second");
    assert_eq!(end_of(&lab, &name)["exit_status"], 0);
    assert_eq!(lab.netd(&["logs", &name]).ok().stdout, "second\n");
    // Also one whose output goes to the terminal.
    let said = lab.netd(&["run", "--name", &name, "--network", "none", "--", "echo", "third"]).ok();
    assert_eq!(said.stdout, "third\n");
    lab.netd(&["logs", &name]).fails(1, "there is no output");
}

#[test]
fn a_run_that_does_not_exist_is_answered_with_those_that_do() {
    let lab = Lab::new();
    let said = lab.netd(&["logs", "nothing"]).fails(1, "there is no output of nothing");
    assert!(said.stderr.contains("netd run -d"), "{}", said.stderr);
    let name = start(&lab, "job", "true");
    let said = lab.netd(&["logs", "nothing"]).fails(1, "there is no output of nothing");
    assert!(said.stderr.contains(&name), "{}", said.stderr);
    lab.netd(&["container", "inspect", "nothing"]).fails(1, "there is no container nothing");
}

#[test]
fn a_command_that_cannot_be_started_says_so_in_its_output() {
    let lab = Lab::new();
    let name = lab.name("job");
    lab.netd(&["run", "-d", "--name", &name, "--network", "none", "--", "/no/such/program"]).ok();
    assert_eq!(end_of(&lab, &name)["exit_status"], 127);
    let said = lab.netd(&["logs", &name]).ok();
    assert_eq!(said.stdout, "");
    assert!(said.stderr.contains("cannot run /no/such/program"), "{}", said.stderr);
}

#[test]
fn the_signal_that_has_ended_a_run_is_kept() {
    let lab = Lab::new();
    let name = start(&lab, "job", "kill -TERM $$");
    let run = end_of(&lab, &name);
    assert_eq!((&run["exit_status"], &run["signal"]), (&json!(143), &json!("SIGTERM")));
}

#[test]
fn a_run_whose_supervisor_is_killed_has_ended() {
    let lab = Lab::new();
    let name = start(&lab, "job", "echo $PPID; exec sleep 1000");
    let supervisor = || lab.netd(&["logs", &name]).ok().stdout.trim().parse().ok();
    wait_for("the first line", PATIENCE, || supervisor().is_some());
    kill(Pid::from_raw(supervisor().unwrap()), Signal::SIGKILL).unwrap();
    let run = end_of(&lab, &name);
    assert_eq!(
        (&run["status"], &run["ended"], &run["exit_status"]),
        (&json!("ended"), &json!(null), &json!(null))
    );
    let text = lab.netd(&["container", "inspect", &name]).ok().stdout;
    assert!(text.contains("which was killed"), "{text}");
}

#[test]
fn what_a_run_leaves_behind_cannot_keep_it_from_ending() {
    let lab = Lab::new();
    let name = lab.name("job");
    // On the host's network nothing ends it, until it has nobody to write to.
    let script = "echo started; while echo alive; do sleep 0.01; done & exit 2";
    lab.netd(&["run", "-d", "--name", &name, "--network", "host", "--", "sh", "-c", script]).ok();
    let told = || lab.netd(&["--json", "container", "inspect", &name]).ok().json()["run"].clone();
    wait_for("the end of the run", PATIENCE, || told()["status"] == "ended");
    assert_eq!(told()["exit_status"], 2);
    let said = lab.netd(&["logs", "-f", &name]).ok().stdout;
    assert!(said.contains("started\n") && said.contains("alive\n"), "{}", said.len());
}

#[test]
fn removing_a_run_removes_its_output() {
    let lab = Lab::new();
    let (ended, running) =
        (start(&lab, "ended", "echo x"), start(&lab, "running", "echo x; exec sleep 1000"));
    end_of(&lab, &ended);
    lab.netd(&["container", "rm", &ended, "nothing"]).fails(1, "there is no container nothing");
    lab.netd(&["logs", &ended]).ok();
    lab.netd(&["container", "rm", &ended, &running]).ok();
    for name in [&ended, &running] {
        lab.netd(&["logs", name]).fails(1, "there is no output");
        lab.netd(&["container", "inspect", name]).fails(1, "there is no container");
    }
    lab.netd(&["container", "rm", &ended]).fails(1, "there is no container");
    assert!(!lab.log_dir().exists());
}

#[test]
fn down_removes_all_output() {
    let lab = Lab::new();
    let before = Snapshot::of(&lab);
    let (ended, running) = (start(&lab, "ended", "echo x"), start(&lab, "running", "yes"));
    end_of(&lab, &ended);
    let said = lab.netd(&["down"]).ok().stdout;
    for name in [&ended, &running] {
        assert!(said.contains(&format!("output of {name}\n")), "{said}");
    }
    // The supervisor sees the end of its command, and finds nothing to write to.
    wait_for("the host to be as before", PATIENCE, || Snapshot::of(&lab).differences(&before).is_empty());
}

#[test]
fn down_all_removes_the_output_of_hosts_that_are_gone() {
    let lab = Lab::new();
    let (other, name) = (Netns::new("other"), lab.name("job"));
    let words = ["run", "-d", "--name", &name, "--network", "none", "--", "echo", "x"];
    lab.netd_in(&other, &lab.state_dir(), &words).ok();
    lab.netd_in(&other, &lab.state_dir(), &["logs", "-f", &name]).ok();
    lab.netd(&["down", "--all"]).ok();
    assert!(lab.log_dir().exists(), "its host is still there");
    drop(other);
    wait_for("the output to be removed", PATIENCE, || {
        lab.netd(&["down", "--all"]).ok();
        !lab.log_dir().exists()
    });
}
