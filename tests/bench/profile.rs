//! Profiles small packets with perf during a long stream, by the CPU clock, since virtual machines have no other event.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::ground::{CONTAINER, Contender, SMALL, Terms};
use crate::live::{self, Generator, ONCE};
use crate::rounds::say;
use crate::work::small::Place;

/// How long perf records, seconds.
const SECONDS: f64 = 3.0;

/// Writes the profile of a contender's packets, both directions, to text files in `out`.
pub(crate) fn profile(contender: Contender, flows: u32, out: &Path) {
    fs::create_dir_all(out).expect("make a folder for the profiles");
    let connections = if flows > 100_000 { flows + flows / 10 } else { 0 };
    let place = Place::new(contender, Terms { connections, ..Terms::default() });
    place.establish(flows);
    let address = place.ground.address(SMALL);
    let inward = live::from_client(&place.ground, address, flows, 0);
    let outward = live::from_container(&place.ground, (CONTAINER, SMALL.target), flows, 0);
    for (direction, stream) in [("in", inward), ("out", outward)] {
        watch(&format!("{}-{direction}", contender.name()), &stream, out);
    }
}

fn watch(name: &str, stream: &Generator, out: &Path) {
    let frames = stream.frames(SECONDS + 1.0);
    let data = out.join(format!("{name}.perf"));
    let mut perf = Command::new("perf")
        .args(["record", "-q", "-C", "1", "-e", "cpu-clock", "-F", "9973", "-o"])
        .arg(&data)
        .args(["--", "sleep", &SECONDS.to_string()])
        .stdin(Stdio::null())
        .spawn()
        .expect("start perf (package linux-perf)");
    let pace = stream.pace(frames, ONCE);
    assert!(perf.wait().expect("wait for perf").success(), "perf failed");
    let text = out.join(format!("{name}.txt"));
    let report = Command::new("perf")
        .args(["report", "--stdio", "--no-children", "--percent-limit", "0.3", "--sort", "symbol", "-i"])
        .arg(&data)
        .stdin(Stdio::null())
        .stdout(File::create(&text).expect("make a file for the profile"))
        .stderr(Stdio::null())
        .status();
    assert!(report.expect("start perf").success(), "perf failed");
    say(&format!("{name}: {:.0} ns a packet, {}", pace.seconds * 1e9, text.display()));
}
