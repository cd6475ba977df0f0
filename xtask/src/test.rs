//! All tests: first those that need no root, then those with BPF programs and traffic.

use std::hint::spin_loop;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::shell::{cargo, run, say};
use crate::{build, host, setup, tidy};

/// Runs the tests whose names contain one of `filter`, or all: the privileged ones `repeat` times, beside this many
/// busy loops.
pub(crate) fn test(filter: &[String], repeat: u32, busy: u32) -> Result<()> {
    host::check()?;
    setup::everything()?;
    build::build(true)?;
    let other = build::other_layout()?;
    tidy::tidy()?;
    say("tests that need no privilege");
    run(cargo().args(["test", "--quiet", "--"]).args(filter))?;
    say("building the tests of programs and traffic");
    run(cargo().args(["test", "--release", "--package", "netd-tests", "--no-run"]))?;
    beside(busy, || rounds(filter, repeat, &other))
}

/// Runs the privileged tests until a round fails.
fn rounds(filter: &[String], repeat: u32, other: &Path) -> Result<()> {
    for round in 1..=repeat {
        let which = if repeat == 1 { String::new() } else { format!(", round {round} of {repeat}") };
        say(&format!("programs and traffic: BPF, namespaces, real servers{which}"));
        let start = Instant::now();
        run(cargo()
            .args(["test", "--release", "--package", "netd-tests", "--"])
            .args(filter)
            .env("NETD_BIN", build::binary(true))
            .env("NETD_OTHER_LAYOUT_BIN", other))
        .with_context(|| format!("round {round} of {repeat}"))?;
        if repeat != 1 {
            say(&format!("round {round} of {repeat} passed in {} s", start.elapsed().as_secs()));
        }
    }
    Ok(())
}

/// Runs `work` while this many threads each keep a CPU busy.
fn beside<T>(busy: u32, work: impl FnOnce() -> T) -> T {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..busy {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    spin_loop();
                }
            });
        }
        let result = work();
        is_done.store(true, Ordering::Relaxed);
        result
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_loops_end_with_the_work() {
        assert_eq!(beside(2, || 7), 7);
    }
}
