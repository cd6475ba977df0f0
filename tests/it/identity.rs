//! netd uses a namespace only if it is the recorded one, since names and process numbers are reused.

use std::process::Command;

use netd_tests::lab::Lab;
use netd_tests::netns::{Netns, Process};

/// Gives the name of a namespace to a new one, with a process in it.
fn replace(name: &str) -> Process {
    for words in [["netns", "delete", name], ["netns", "add", name]] {
        assert!(Command::new("ip").args(words).status().unwrap().success());
    }
    Process::new(Command::new("nsenter").arg(format!("--net=/run/netns/{name}")).args(["sleep", "600"]))
}

fn is_running(process: &Process) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.pid())).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|state| !state.is_empty() && !state.starts_with('Z'))
}

#[test]
fn another_namespace_of_the_same_name_is_not_entered_or_removed() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let stranger = replace(&web);
    lab.netd(&["container", "exec", &web, "--", "true"]).fails(1, &web);
    lab.netd(&["container", "rm", &web]).ok();
    assert!(is_running(&stranger), "its process was killed");
    assert!(netd_tests::netns::sandbox(&web).exists(), "its name was removed");
    drop(stranger);
    drop(Netns { name: web });
}

#[test]
fn a_run_with_a_replaced_namespace_kills_no_other_process() {
    let lab = Lab::new();
    let name = lab.name("run");
    lab.netd(&["run", "-d", "--name", &name, "--", "sleep", "600"]).ok();
    let stranger = replace(&name);
    lab.netd(&["container", "rm", &name]).ok();
    assert!(is_running(&stranger), "the stranger's process was killed");
    drop(stranger);
    drop(Netns { name });
}

#[test]
fn a_path_to_another_namespace_is_not_entered() {
    let lab = Lab::new();
    let (ours, other) = (Netns::new("ours"), Netns::new("other"));
    // Like a reused process number: the path is the same, but leads to another namespace.
    let path = lab.folder.path().join("namespace");
    std::os::unix::fs::symlink(ours.path(), &path).unwrap();
    let name = lab.name("linked");
    lab.netd(&["container", "add", &name, "--netns", path.to_str().unwrap()]).ok();
    lab.netd(&["container", "exec", &name, "--", "true"]).ok();
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink(other.path(), &path).unwrap();
    lab.netd(&["container", "exec", &name, "--", "true"]).fails(1, "is not at");
    lab.netd(&["container", "rm", &name]).ok();
    assert!(ours.path().exists() && other.path().exists());
}

#[test]
fn an_ended_process_gives_no_namespace() {
    let lab = Lab::new();
    let sandbox = Netns::new("process");
    let process = Process::new(sandbox.command("sleep").arg("600"));
    let name = lab.name("pid");
    let pid = process.pid().to_string();
    netd_tests::wait_for("the process to be inside", netd_tests::probe::PATIENCE, || {
        let inside = std::fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        inside.is_some() && inside != std::fs::read_link("/proc/self/ns/net").ok()
    });
    lab.netd(&["container", "add", &name, "--pid", &pid]).ok();
    lab.netd(&["container", "exec", &name, "--", "true"]).ok();
    drop(process);
    lab.netd(&["container", "exec", &name, "--", "true"]).fails(1, &name);
    lab.netd(&["container", "rm", &name]).ok();
}

#[test]
fn a_relative_path_works_in_every_folder() {
    let lab = Lab::new();
    let sandbox = Netns::new("relative");
    let name = lab.name("relative");
    let words = ["container", "add", &name, "--netns", &sandbox.name];
    let added = lab.netd_command(&words).current_dir("/run/netns").status().unwrap();
    assert!(added.success());
    let words = ["container", "exec", &name, "--", "ip", "link", "show", "eth0"];
    assert!(lab.netd_command(&words).current_dir("/").output().unwrap().status.success());
    let shown = lab.netd(&["--json", "container", "inspect", &name]).ok().json();
    assert_eq!(shown["sandbox"], sandbox.path().to_str().unwrap());
}
