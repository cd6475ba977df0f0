//! `netd run`: everything is removed when its command ends, however it ends.

use std::path::Path;
use std::process::{Command, Stdio};

use netd_tests::lab::{HOST, Lab, Said};
use netd_tests::netns::Process;
use netd_tests::probe::{PATIENCE, tcp_first_line};
use netd_tests::snapshot::Snapshot;
use netd_tests::wait_for;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A server that sends "up" to each client, as a shell script, so that the test needs no other program.
const SERVER: &str = "import socket\ns=socket.socket()\ns.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n\
                      s.bind(('0.0.0.0',80))\ns.listen()\nwhile True:\n c,_=s.accept()\n c.sendall(b'up\\n')\n c.close()";

fn started(lab: &Lab, name: &str) -> Process {
    let words = ["run", "--name", name, "-p", "8080:80", "--", "python3", "-c", SERVER];
    let run = Process::new(lab.netd_command(&words).stdout(Stdio::null()).stderr(Stdio::null()));
    wait_for("the server", PATIENCE, || {
        lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).is_ok_and(|line| line == "up")
    });
    run
}

fn is_gone(lab: &Lab, name: &str) -> bool {
    let listed = lab.netd(&["--json", "container", "ls"]).ok().json();
    listed.as_array().unwrap().is_empty() && !Path::new("/run/netns").join(name).exists()
}

#[test]
fn the_exit_status_is_the_commands() {
    let lab = Lab::new();
    let status = |words: &[&str]| lab.netd(words).status.code();
    assert_eq!(status(&["run", "--", "true"]), Some(0));
    assert_eq!(status(&["run", "--", "sh", "-c", "exit 42"]), Some(42));
    assert_eq!(status(&["run", "--", "sh", "-c", "kill -9 $$"]), Some(137));
    lab.netd(&["run", "--", "/no/such/program"]).fails(127, "/no/such/program");
    let said = lab.netd(&["run", "--", "cat", "/proc/self/comm"]).ok();
    assert_eq!(said.stdout, "cat\n");
    let listed = lab.netd(&["--json", "container", "ls"]).ok().json();
    assert_eq!(listed, serde_json::json!([]));
}

#[test]
fn a_run_is_removed_after_a_signal() {
    let lab = Lab::new();
    let name = lab.name("web");
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let mut run = started(&lab, &name);
        run.signal(signal);
        let status = run.wait();
        // On SIGINT, Python raises an exception and then kills itself with the same signal.
        assert_eq!(status.code(), Some(128 + signal as i32), "{signal}");
        assert!(is_gone(&lab, &name), "{signal}");
    }
}

#[test]
fn a_run_is_removed_when_netd_is_killed() {
    let lab = Lab::new();
    let name = lab.name("web");
    let mut run = started(&lab, &name);
    run.signal(Signal::SIGKILL);
    run.wait();
    wait_for("the run to be taken down by itself", PATIENCE, || {
        !Path::new("/run/netns").join(&name).exists()
    });
    assert!(is_gone(&lab, &name));
}

#[test]
fn a_run_is_removed_when_its_supervisor_is_killed() {
    let lab = Lab::new();
    let name = lab.name("web");
    let mut run = started(&lab, &name);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.pid())).unwrap();
    let supervisor: i32 = children.trim().parse().unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    assert_eq!(run.wait().code(), Some(137));
    assert!(is_gone(&lab, &name));
}

#[test]
fn a_run_whose_processes_are_all_killed_is_repaired_by_the_next_command() {
    let lab = Lab::new();
    let before = Snapshot::of(&lab);
    let name = lab.name("web");
    let mut run = started(&lab, &name);
    let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", run.pid())).unwrap();
    let supervisor: i32 = children.trim().parse().unwrap();
    kill(Pid::from_raw(supervisor), Signal::SIGSTOP).unwrap();
    run.signal(Signal::SIGKILL);
    kill(Pid::from_raw(supervisor), Signal::SIGKILL).unwrap();
    run.wait();
    wait_for("the supervisor's end", PATIENCE, || !Path::new(&format!("/proc/{supervisor}")).exists());
    lab.netd(&["sync"]).ok();
    assert!(is_gone(&lab, &name), "the record was not repaired");
    lab.netd(&["down"]).ok();
    Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn a_detached_run_stays_until_it_is_removed() {
    let lab = Lab::new();
    let name = lab.name("web");
    let said = lab.netd(&["run", "-d", "--name", &name, "-p", "8080:80", "--", "python3", "-c", SERVER]).ok();
    assert!(said.stdout.starts_with(&format!("{name}\n")), "{}", said.stdout);
    wait_for("the server", PATIENCE, || {
        lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).is_ok()
    });
    lab.netd(&["run", "-d", "--name", &name, "--", "true"]).fails(1, "already exists");
    lab.netd(&["container", "rm", &name]).ok();
    assert!(is_gone(&lab, &name));
    let state = lab.state_dir().to_string_lossy().into_owned();
    wait_for("its processes to end", PATIENCE, || {
        let processes = std::process::Command::new("ps").args(["-eo", "args"]).output().unwrap();
        !String::from_utf8_lossy(&processes.stdout).contains(&state)
    });
}

#[test]
fn a_run_gets_no_descriptors_of_its_caller() {
    let lab = Lab::new();
    let lock = lab.folder.path().join("lock");
    let with_descriptors = |words: &[&str]| {
        let netd = lab.netd_command(words);
        let line = format!("exec 7</dev/null 9>>{}; flock 9; exec \"$@\"", lock.display());
        let mut script = Command::new("sh");
        script.args(["-c", &line, "sh"]).arg(netd.get_program()).args(netd.get_args());
        Said::of(&script.output().unwrap(), words)
    };
    // `ls` lists the descriptors of the shell, which are those that netd passed.
    let list = ["sh", "-c", "ls /proc/$$/fd; true"];
    let words = [&["run", "--network", "host", "--"], &list[..]].concat();
    assert_eq!(with_descriptors(&words).ok().stdout, "0\n1\n2\n");

    let name = lab.name("web");
    with_descriptors(&["run", "-d", "--name", &name, "--", "sleep", "1000"]).ok();
    let free = Command::new("flock").arg("--nonblock").arg(&lock).arg("true").status().unwrap();
    assert!(free.success(), "the detached run holds the caller's lock");
    let words = [&["container", "exec", &name, "--"], &list[..]].concat();
    assert_eq!(with_descriptors(&words).ok().stdout, "0\n1\n2\n");
    lab.netd(&["container", "rm", &name]).ok();
}

#[test]
fn a_command_that_leaves_something_running_leaves_nothing() {
    let lab = Lab::new();
    let name = lab.name("web");
    let mark = lab.name("mark");
    lab.netd(&[
        "run",
        "--name",
        &name,
        "--",
        "sh",
        "-c",
        &format!("exec -a {mark} true; sleep 1000 & exit 3"),
    ]);
    assert!(is_gone(&lab, &name));
}

#[test]
fn exec_runs_inside_and_its_exit_status_is_the_commands() {
    let lab = Lab::new();
    let web = lab.container("web", &[]);
    let inside =
        lab.netd(&["container", "exec", &web, "--", "ip", "-j", "address", "show", "eth0"]).ok().json();
    assert!(inside.to_string().contains(&lab.address(&web)));
    assert_eq!(lab.netd(&["container", "exec", &web, "--", "sh", "-c", "exit 9"]).status.code(), Some(9));
    lab.netd(&["container", "exec", &web, "--", "/no/such"]).fails(127, "/no/such");
    lab.netd(&["container", "exec", "nobody", "--", "true"]).fails(1, "there is no container nobody");
}
