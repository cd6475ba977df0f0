//! The harness of the privileged tests: hosts made of namespaces, probes, snapshots, packets.
//!
//! Tests panic instead of returning errors, so that a failure names its line. A missing privilege or tool is a
//! failure that names it: no test is skipped.

#![expect(clippy::missing_panics_doc, reason = "tests fail by panicking")]
#![expect(clippy::expect_used, reason = "tests fail by panicking")]

pub mod descriptors;
pub mod lab;
pub mod netns;
pub mod nginx;
pub mod openmetrics;
pub mod packet;
pub mod probe;
pub mod report;
pub mod snapshot;
pub mod steps;
pub mod stimulus;
pub mod stream;
pub mod tap;
pub mod tun;
pub mod twins;

use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The netd under test: `NETD_BIN`, or what `cargo xtask build --release` left.
pub fn netd_binary() -> PathBuf {
    let path = std::env::var_os("NETD_BIN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/netd")),
        PathBuf::from,
    );
    assert!(path.exists(), "there is no netd at {}: run `cargo xtask build --release`", path.display());
    path
}

/// A netd whose programs have rows of another form: `NETD_OTHER_LAYOUT_BIN`, which `cargo xtask test` builds.
pub fn other_layout_binary() -> PathBuf {
    let path = std::env::var_os("NETD_OTHER_LAYOUT_BIN").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/other-layout/debug/netd")),
        PathBuf::from,
    );
    assert!(path.exists(), "there is no netd at {}: run `cargo xtask test`", path.display());
    path
}

/// Makes a copy of netd in which each of these texts is another one of the same length.
pub fn patched_binary(at: &std::path::Path, texts: &[(&str, &str)]) {
    let mut bytes = std::fs::read(netd_binary()).expect("read netd");
    for (text, other) in texts {
        assert_eq!(text.len(), other.len(), "{text}");
        let places: Vec<usize> = bytes
            .windows(text.len())
            .enumerate()
            .filter(|(_, one)| *one == text.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty(), "netd does not have the text {text}");
        for place in places {
            bytes[place..place + text.len()].copy_from_slice(other.as_bytes());
        }
    }
    std::fs::write(at, bytes).expect("write a netd");
    std::fs::set_permissions(at, std::os::unix::fs::PermissionsExt::from_mode(0o755))
        .expect("make it executable");
}

/// Fails with a clear message if the tests cannot run here.
pub fn need_root() {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests need root: they load BPF programs and make namespaces"
    );
}

/// Waits until a condition holds. Nothing else in the tests sleeps.
#[track_caller]
pub fn wait_for(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + limit;
    while !holds() {
        assert!(Instant::now() < deadline, "waited {limit:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
