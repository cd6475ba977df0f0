//! Everything that is made is removed again, whatever happens in between.

use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use netd_tests::lab::{HOST, Lab};
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_ask, udp_socket};
use netd_tests::snapshot::{Snapshot, cookie};
use netd_tests::wait_for;

#[test]
fn after_down_the_host_is_as_before() {
    let lab = Lab::new();
    let before = Snapshot::of(&lab);
    lab.netd(&["network", "create", "lab", "--subnet", "10.20.0.0/24"]).ok();
    let web = lab
        .container("web", &["-p", "8080:80", "-p", "127.0.0.1:5353:53/udp", "-p", "30000-30099:30000-30099"]);
    lab.container("other", &["--network", "lab"]);
    lab.container("alone", &["--network", "none"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
    lab.host.run(|| tcp_first_line("127.0.0.1:8080", PATIENCE)).unwrap();
    lab.netd(&["down"]).ok();
    Snapshot::of(&lab).assert_same_as(&before);
    // A second `down` succeeds and leaves nothing; commands that only show something leave nothing either.
    lab.netd(&["down"]).ok();
    for words in [vec!["ports"], vec!["status"], vec!["network", "ls"], vec!["container", "ls"]] {
        lab.netd(&words).ok();
    }
    Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn removing_a_container_removes_its_veth_namespace_and_ports() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    let shown = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
    let veth = shown["host_interface"].as_str().unwrap().to_owned();
    lab.netd(&["container", "rm", &web]).ok();
    assert!(!lab.host.try_sh(&format!("ip link show {veth}")).status.success());
    assert!(!sandbox(&web).exists());
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json(), serde_json::json!([]));
    lab.netd(&["container", "rm", &web]).fails(1, "there is no container");
    // The port and the name are free again.
    lab.container("web", &["-p", "8080:80"]);
}

#[test]
fn a_container_without_its_namespace_can_be_removed() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    netd_tests::netns::Netns::new("unused");
    std::process::Command::new("ip").args(["netns", "delete", &web]).status().unwrap();
    lab.netd(&["sync"]).ok();
    lab.netd(&["container", "rm", &web]).ok();
    lab.container("web", &["-p", "8080:80"]);
}

#[test]
fn a_udp_client_is_served_again_after_its_container_returns() {
    let lab = Lab::new();
    let name = lab.container("echo", &["-p", "5353:53/udp", "-p", "8080:80"]);
    let mut servers = (Server::udp_echo(&sandbox(&name), 53), Server::tcp_echo(&sandbox(&name), 80));
    // The same socket all the time, so its port and the flow's key stay the same.
    let socket = lab.client.run(|| udp_socket(SILENCE));
    let to = format!("{HOST}:5353");
    let stop = AtomicBool::new(false);
    let answers = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                if udp_ask(&socket, &to, b"x").is_ok() {
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        for round in 0..5 {
            let served = answers.load(Ordering::Relaxed);
            wait_for("answers", PATIENCE, || answers.load(Ordering::Relaxed) > served + 10);
            lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
            drop(servers);
            lab.netd(&["container", "rm", &name]).ok();
            // Every other time another container gets the address in between: no packet of the old flow may reach it.
            let squatter = (round % 2 == 0).then(|| lab.container("squatter", &[]));
            let strays = squatter.as_ref().map(|squatter| Server::udp_echo(&sandbox(squatter), 53));
            if squatter.is_some() {
                let lost = answers.load(Ordering::Relaxed);
                let deadline = Instant::now() + 2 * SILENCE;
                while Instant::now() < deadline {
                    assert!(answers.load(Ordering::Relaxed) <= lost + 1, "a stale flow was answered");
                    std::thread::yield_now();
                }
            }
            drop(strays);
            lab.container("echo", &["-p", "5353:53/udp", "-p", "8080:80"]);
            servers = (Server::udp_echo(&sandbox(&name), 53), Server::tcp_echo(&sandbox(&name), 80));
            if let Some(squatter) = squatter {
                lab.netd(&["container", "rm", &squatter]).ok();
            }
        }
        let served = answers.load(Ordering::Relaxed);
        wait_for("answers after the last round", PATIENCE, || answers.load(Ordering::Relaxed) > served + 10);
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap();
    });
}

#[test]
fn two_hosts_on_one_machine_do_not_disturb_each_other() {
    let (one, two) = (Lab::new(), Lab::new());
    // Both use the same state folder: only the namespaces differ.
    let state = one.state_dir();
    let names = (one.name("web"), two.name("web"));
    one.netd_in(&one.host, &state, &["container", "add", &names.0, "-p", "8080:80"]).ok();
    one.netd_in(&two.host, &state, &["container", "add", &names.1, "-p", "8080:80"]).ok();
    let _first = Server::tcp_echo(&sandbox(&names.0), 80);
    let _second = Server::tcp_echo(&sandbox(&names.1), 80);
    let reached = |lab: &Lab| {
        lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
        lab.host.run(|| tcp_first_line("127.0.0.1:8080", PATIENCE)).unwrap();
    };
    reached(&one);
    reached(&two);
    one.netd_in(&one.host, &state, &["down"]).ok();
    assert!(one.client.run(|| tcp_first_line(&format!("{HOST}:8080"), SILENCE)).is_err());
    reached(&two);
    one.netd_in(&two.host, &state, &["down"]).ok();
    assert!(!state.exists());
}

#[test]
fn two_instances_in_one_namespace_do_not_disturb_each_other() {
    let lab = Lab::new();
    let before = Snapshot::of(&lab);
    let other = lab.folder.path().join("other-state");
    let web = lab.container("web", &["-p", "8080:80"]);
    let second = lab.name("second");
    lab.netd_in(&lab.host, &other, &["container", "add", &second, "-p", "8081:80"]).ok();
    let _first = Server::tcp_echo(&sandbox(&web), 80);
    let _second = Server::tcp_echo(&sandbox(&second), 80);
    let reached = |port: u16, patience| {
        let outside = lab.client.run(|| tcp_first_line(&format!("{HOST}:{port}"), patience).is_ok());
        let inside = lab.host.run(|| tcp_first_line(&format!("127.0.0.1:{port}"), patience).is_ok());
        assert_eq!(outside, inside);
        outside
    };
    assert!(reached(8080, PATIENCE) && reached(8081, PATIENCE));
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len(), 1);
    lab.netd_in(&lab.host, &other, &["down"]).ok();
    assert!(reached(8080, PATIENCE) && !reached(8081, SILENCE));
    lab.netd(&["down"]).ok();
    Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn concurrent_commands_take_turns_and_none_is_lost() {
    let lab = Lab::new();
    let names: Vec<String> = (0..8).map(|number| lab.name(&format!("c{number}"))).collect();
    let ports: Vec<String> = (0..8).map(|number| format!("{}:80", 8000 + number)).collect();
    let commands: Vec<_> = names
        .iter()
        .zip(&ports)
        .map(|(name, port)| {
            let mut command = lab.netd_command(&["container", "add", name, "-p", port]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for command in commands {
        let output = command.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let list = lab.netd(&["--json", "container", "ls"]).ok().json();
    let mut addresses: Vec<String> =
        list.as_array().unwrap().iter().map(|one| one["addresses"][0]["ip"].to_string()).collect();
    addresses.sort();
    addresses.dedup();
    assert_eq!(addresses.len(), 8, "{list}");
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len(), 8);
}

#[test]
fn a_command_that_is_killed_at_any_moment_is_repaired_by_the_next() {
    let lab = Lab::new();
    let before = Snapshot::of(&lab);
    let steady = lab.container("steady", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&steady), 80);
    let stop = AtomicBool::new(false);
    let failed = AtomicU32::new(0);
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            lab.client.run(|| {
                while !stop.load(Ordering::Relaxed) {
                    if tcp_first_line(&format!("{HOST}:8080"), PATIENCE).is_err() {
                        failed.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        });
        let victim = lab.name("victim");
        let commands: [Vec<&str>; 5] = [
            vec!["container", "add", &victim, "-p", "9000-9400:80-480", "-p", "127.0.0.1:9500:80"],
            vec!["publish", "9600:80", &steady],
            vec!["network", "create", "victims"],
            vec!["container", "rm", &victim],
            vec!["network", "rm", "victims"],
        ];
        for micros in (0..36_000).step_by(900) {
            for words in &commands {
                lab.netd_killed(words, Duration::from_micros(micros));
            }
            lab.netd(&["sync"]).ok();
            let _maybe_there = lab.netd(&["unpublish", "9600"]);
            let _maybe_there = lab.netd(&["container", "rm", &victim]);
            let _maybe_there = lab.netd(&["network", "rm", "victims"]);
            let names = lab.netd(&["--json", "container", "ls"]).ok().json();
            assert_eq!(names.as_array().unwrap().len(), 1, "{names}");
            assert_eq!(lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len(), 1);
        }
        stop.store(true, Ordering::Relaxed);
        asking.join().unwrap();
    });
    assert_eq!(failed.load(Ordering::Relaxed), 0, "traffic of another container was disturbed");
    lab.netd(&["down"]).ok();
    Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn a_first_command_that_is_killed_is_repaired_by_the_next() {
    let lab = Lab::new();
    let before = Snapshot::of(&lab);
    let name = lab.name("first");
    for micros in (0..60_000).step_by(2_500) {
        lab.netd_killed(&["container", "add", &name, "-p", "8080:80"], Duration::from_micros(micros));
        lab.netd(&["down"]).ok();
        Snapshot::of(&lab).assert_same_as(&before);
    }
    lab.netd(&["container", "add", &name, "-p", "8080:80"]).ok();
}

#[test]
fn traffic_needs_no_netd_process_and_down_all_removes_dead_hosts() {
    let lab = Lab::new();
    let ghost = netd_tests::netns::Netns::new("ghost");
    let ghostly = lab.name("ghostly");
    lab.netd_in(&ghost, &lab.state_dir(), &["container", "add", &ghostly, "--network", "bridge"]).ok();
    let pins = format!("{}-", cookie(&ghost));
    let left = || {
        std::fs::read_dir("/sys/fs/bpf/netd").is_ok_and(|mut entries| {
            entries.any(|entry| entry.unwrap().file_name().to_string_lossy().starts_with(&pins))
        })
    };
    assert!(left());
    drop(ghost);
    std::process::Command::new("ip").args(["netns", "delete", &ghostly]).status().unwrap();
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).is_ok());
    assert!(left());
    lab.netd(&["down", "--all"]).ok();
    assert!(!left());
    assert!(!lab.state_dir().exists());
}

#[test]
fn without_tcx_clsact_is_used_and_removed() {
    let mut lab = Lab::new();
    lab.clsact = true;
    // A foreign qdisc and filter stay; netd's own qdisc is removed.
    lab.host.sh("tc qdisc add dev up1 clsact");
    let before = Snapshot::of(&lab);
    let web = lab.container("web", &["-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&web), 80);
    for _twice in 0..2 {
        lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap();
        lab.outside.run(|| tcp_first_line("198.19.0.1:8080", PATIENCE)).unwrap();
        lab.netd(&["sync"]).ok();
    }
    for uplink in ["up0", "up1"] {
        let filters = lab.host.sh(&format!("tc filter show dev {uplink} ingress"));
        assert_eq!(filters.matches("direct-action").count(), 1, "{filters}");
    }
    let status = lab.netd(&["--json", "status"]).ok().json();
    assert_eq!(status["programs"][0]["hook"], "clsact ingress");
    lab.netd(&["container", "rm", &web]).ok();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), SILENCE)).is_err());
    lab.netd(&["down"]).ok();
    Snapshot::of(&lab).assert_same_as(&before);
}
