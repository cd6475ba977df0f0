//! The same packets through netd and through the kernel's own NAT. The results must be the same, except for the
//! differences that docs/nat-differences.md lists.
//!
//! `NETD_DIFFERENTIAL_PACKETS` and `NETD_DIFFERENTIAL_SEED` set the length and the seed of a run.

mod dice;
mod host;
mod odd;
mod play;
mod rules;
mod seen;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use netd_tests::stimulus::describe;
use netd_tests::twins::{Outcome, World};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use play::{Case, Play};
use rules::{RARE, RULES};
use seen::Seen;

/// How many packets are sent by default.
const PACKETS: u64 = 100_000;

/// Both worlds (hosts), and the results so far.
struct Run {
    worlds: [World; 2],
    play: Play,
    /// How often each result occurred; allowed differences by name.
    counts: BTreeMap<&'static str, u64>,
    /// Differences that no rule allows: for each kind of packet the number and the first one.
    unlisted: BTreeMap<&'static str, (u64, String)>,
}

impl Run {
    fn step(&mut self, number: u64) {
        let mut case = self.play.next();
        let [nft, netd] = &mut self.worlds;
        let outcomes =
            [nft.exchange(case.from, &case.packets[0]), netd.exchange(case.from, &case.packets[1])];
        if case.learns {
            self.play.learn(&mut case, &outcomes);
        }
        let seen = Seen::new(&case, &outcomes);
        let what = if seen.nft_translates() && seen.netd_translates() {
            self.play.received(&case, [&seen.nft[0].1, &seen.netd[0].1]);
            Ok("translated")
        } else if let Some(wrong) = seen.agreement() {
            wrong
        } else {
            let rule = RULES.iter().find(|rule| (rule.holds)(&seen)).map(|rule| rule.name);
            // From here on the two worlds may have different states of the flow.
            self.play.retire(&case);
            rule.ok_or("the worlds differ")
        };
        match what {
            Ok(name) => *self.counts.entry(name).or_default() += 1,
            Err(why) => {
                let text = format!("{why}\n{}", report(number, &case, &outcomes, self.play.past(&case)));
                self.unlisted.entry(case.what).or_insert((0, text)).0 += 1;
            }
        }
        self.play.note(number, &case);
    }
}

/// A difference as text: what was sent, the expected result, and the results.
fn report(number: u64, case: &Case, outcomes: &[Outcome; 2], past: &str) -> String {
    let mut text = format!("packet {number}, {} from {:?}: {:?}\n", case.what, case.from, case.stimulus);
    if !past.is_empty() {
        writeln!(text, "  its flow until then: {past}").unwrap();
    }
    for (name, packets) in ["nftables", "netd"].into_iter().zip(&case.packets) {
        if name == "netd" || packets != &case.packets[1] {
            for packet in packets {
                writeln!(text, "  sent to {name}: {}", describe(packet)).unwrap();
            }
        }
    }
    if let Some((end, [_, packets])) = &case.expected {
        for packet in packets {
            writeln!(text, "  expected at {end:?}: {}", describe(packet)).unwrap();
        }
    }
    for (name, outcome) in ["nftables", "netd"].into_iter().zip(outcomes) {
        writeln!(text, "  {name}{}", if outcome.judged { ", invalid by conntrack" } else { "" }).unwrap();
        for (end, packet) in &outcome.arrived {
            writeln!(text, "    at {end:?}: {}", describe(packet)).unwrap();
        }
    }
    text
}

/// Keeps the calling thread on one processor, see [`World::exchange`].
fn stay() {
    let here = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let one = (0..CpuSet::count()).find(|cpu| here.is_set(*cpu).unwrap()).unwrap();
    let mut only = CpuSet::new();
    only.set(one).unwrap();
    sched_setaffinity(Pid::from_raw(0), &only).unwrap();
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name}={value}")))
}

#[test]
fn netd_translates_as_the_kernel_does() {
    let packets = setting("NETD_DIFFERENTIAL_PACKETS", PACKETS);
    let seed = setting("NETD_DIFFERENTIAL_SEED", 1);
    let worlds = [World::nftables(), World::netd()];
    stay();
    let mut run = Run { worlds, play: Play::new(seed), counts: BTreeMap::new(), unlisted: BTreeMap::new() };
    for number in 0..packets {
        run.step(number);
    }
    println!("NETD_DIFFERENTIAL_SEED={seed}: {:#?}", run.counts);
    let mut text = String::new();
    for (what, (count, first)) in &run.unlisted {
        writeln!(text, "{count} of kind '{what}', the first: {first}").unwrap();
    }
    assert!(run.unlisted.is_empty(), "NETD_DIFFERENTIAL_SEED={seed}: unlisted differences\n{text}");
    assert!(run.counts["translated"] > packets / 2, "too little is compared: {:#?}", run.counts);
    if packets >= PACKETS {
        let names = RULES.iter().map(|rule| rule.name);
        let unused: Vec<&str> =
            names.filter(|name| !run.counts.contains_key(name) && !RARE.contains(name)).collect();
        assert!(unused.is_empty(), "differences that are listed and do not happen: {unused:?}");
    }
}

#[test]
fn each_allowed_difference_has_a_row_in_the_docs() {
    let text = include_str!("../../../docs/nat-differences.md");
    let rows: BTreeSet<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(name, _)| name)
        .collect();
    let rules: BTreeSet<&str> = RULES.iter().map(|rule| rule.name).collect();
    assert_eq!(rules, rows, "rules on the left, rows on the right");
    assert_eq!(rules.len(), RULES.len(), "each name once");
}
