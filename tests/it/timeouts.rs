//! Idle timeouts.

use netd_tests::lab::{HOST, Lab};
use netd_tests::probe::{PATIENCE, udp_socket};
use netd_tests::wait_for;
use serde_json::{Value, json};

fn timeout(lab: &Lab, phase: &str) -> Value {
    let all = lab.netd(&["--json", "timeouts"]).ok().json();
    let found = all.as_array().unwrap().iter().find(|timeout| timeout["state"] == phase);
    found.unwrap_or_else(|| panic!("no {phase} in {all}"))["seconds"].clone()
}

#[test]
fn a_connection_ends_after_the_idle_timeout_of_its_state() {
    let lab = Lab::new();
    // Timeouts that are set before the programs are loaded apply afterwards.
    lab.netd(&["timeouts", "one_way=1s"]).ok();
    lab.container("web", &["-p", "5353:53/udp"]);
    // No reply comes: the socket is bound but never read.
    let silent = lab.run_in(&lab.name("web"), || std::net::UdpSocket::bind("0.0.0.0:53").unwrap());
    let flows = || lab.netd(&["--json", "flows", "--proto", "udp"]).ok().json().as_array().unwrap().len();
    let socket = lab.client.run(|| udp_socket(PATIENCE));
    let ask = || socket.send_to(b"x", format!("{HOST}:5353")).unwrap();
    let total = || lab.port("udp", 5353)["flows"]["total"].as_u64().unwrap();
    ask();
    wait_for("the flow to end", PATIENCE, || flows() == 0);
    assert_eq!(total(), 1);
    // The next packet opens a new flow.
    ask();
    assert_eq!(total(), 2);
    lab.netd(&["timeouts", "--reset"]).ok();
    assert_eq!(flows(), 1, "it is there for as long as it may be idle");
    drop(silent);
}

#[test]
fn timeouts_are_shown_changed_and_kept() {
    let lab = Lab::new();
    let shown = lab.netd(&["timeouts"]).ok().stdout;
    assert!(shown.starts_with("STATE") && shown.contains("RFC 4787 REQ-5"), "{shown}");
    assert_eq!((timeout(&lab, "one_way"), timeout(&lab, "established")), (json!(120), json!(432_000)));
    assert!(!lab.state_dir().exists(), "nothing was changed");
    lab.netd(&["timeouts", "one_way=30", "established=2h"]).ok();
    lab.netd(&["timeouts", "echo=5m"]).ok();
    assert_eq!((timeout(&lab, "one_way"), timeout(&lab, "established")), (json!(30), json!(7200)));
    assert_eq!(timeout(&lab, "echo"), json!(300));
    for (words, status, part) in [
        (&["timeouts", "udp=5s"][..], 2, "there is no state 'udp'"),
        (&["timeouts", "echo=0"], 2, "'echo=0'"),
        (&["timeouts", "echo=400d"], 2, "'echo=400d'"),
        (&["timeouts", "echo=1m", "syn_sent=soon"], 2, "'soon' is not a duration"),
    ] {
        let said = lab.netd(words).fails(status, part);
        assert!(said.stderr.contains("hint: "), "{}", said.stderr);
    }
    let listed = lab.netd(&["timeouts", "udp=5s"]).stderr;
    assert!(listed.contains("syn_sent") && listed.contains("two_way"), "{listed}");
    assert_eq!(timeout(&lab, "echo"), json!(300), "a refused request changed something");
    lab.netd(&["timeouts", "--reset"]).ok();
    assert_eq!((timeout(&lab, "one_way"), timeout(&lab, "echo")), (json!(120), json!(60)));
    assert!(!lab.state_dir().exists(), "all is as at first");
}
