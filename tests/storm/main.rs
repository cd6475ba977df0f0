//! A storm: everybody acts at random on real namespaces, and what netd promises must hold all the while:
//! `cargo xtask storm`.

#![expect(clippy::expect_used, reason = "a storm that cannot go on stops, and says where")]
#![expect(clippy::cast_possible_truncation, reason = "tables are short")]
#![expect(clippy::print_stdout, reason = "it tells whoever runs it what came of it")]

mod actors;
mod admin;
mod counters;
mod flows;
mod ground;
mod judge;
mod label;
mod noise;
mod plan;
mod reading;
mod sockets;
mod world;

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use netd_tests::snapshot::Snapshot;

use crate::actors::{ACTORS, Kind};
use crate::ground::Room;
use crate::judge::{Breach, Promise};
use crate::plan::{Deed, Plan};
use crate::world::{Counts, World};

/// Lets host, containers, outsiders and administrator act at random, and checks what netd promises.
#[derive(Parser)]
#[command(name = "cargo xtask storm", bin_name = "cargo xtask storm")]
struct Words {
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 2.0)]
    minutes: f64,
    /// What decides all that happens; without it a number is drawn and printed
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Do nothing before this step
    #[arg(long, value_name = "K", default_value_t = 0)]
    from: u64,
    /// End before this step
    #[arg(long, value_name = "K")]
    steps: Option<u64>,
    /// Only these actors
    #[arg(long, value_name = "ACTOR", value_delimiter = ',', conflicts_with = "without")]
    only: Vec<Kind>,
    /// Without these actors
    #[arg(long, value_name = "ACTOR", value_delimiter = ',')]
    without: Vec<Kind>,
    /// With these actors, though something is known to go wrong then
    #[arg(long, value_name = "ACTOR", value_delimiter = ',')]
    with: Vec<Kind>,
    /// Go on after a promise was broken, and tell of each kind the first
    #[arg(long)]
    keep_going: bool,
    /// After a failure, look for a later start from which the same goes wrong
    #[arg(long)]
    shrink: bool,
}

impl Words {
    /// Who takes part.
    fn actors(&self) -> BTreeSet<Kind> {
        if !self.only.is_empty() {
            return self.only.iter().copied().collect();
        }
        let takes_part = |actor: &&actors::Actor| actor.known.is_none() || self.with.contains(&actor.kind);
        let all = ACTORS.iter().filter(takes_part).map(|actor| actor.kind);
        all.filter(|kind| !self.without.contains(kind)).collect()
    }

    /// The words that do the same again.
    fn again(&self, seed: u64, from: u64, steps: u64) -> String {
        let mut said = format!("--seed {seed} --steps {steps}");
        if from > 0 {
            said = format!("{said} --from {from}");
        }
        for (word, kinds) in [("only", &self.only), ("without", &self.without), ("with", &self.with)] {
            let names: Vec<String> = kinds.iter().map(|kind| actors::name(*kind)).collect();
            if !names.is_empty() {
                said = format!("{said} --{word} {}", names.join(","));
            }
        }
        said
    }
}

/// How often what takes long is looked for. Steps.
const ROUND: u64 = 128;
/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(30);
/// How many last steps are tried alone to shorten a failure, the fewest first.
const SHORTER: [u64; 4] = [100, 400, 1600, 6400];

fn main() -> ExitCode {
    let words = Words::parse();
    netd_tests::need_root();
    let seed = words.seed.unwrap_or_else(|| fastrand::Rng::new().u64(..1_000_000));
    println!("storm: seed {seed}");
    let (steps, broken) = run(&words, seed, words.from, words.steps);
    let Some((_, first)) = broken.first() else {
        println!("storm: seed {seed}: every promise was kept");
        return ExitCode::SUCCESS;
    };
    for (count, breach) in &broken {
        println!("{count} times, the first: {breach}");
    }
    let mut from = words.from;
    if words.shrink {
        let shorter = SHORTER.map(|last| steps.saturating_sub(last)).into_iter().find(|start| {
            *start > from
                && run(&words, seed, *start, Some(steps)).1.iter().any(|(_, other)| other.is_alike(first))
        });
        from = shorter.unwrap_or(from);
    }
    println!(
        "storm: seed {seed}: promises were broken; again: cargo xtask storm {}",
        words.again(seed, from, steps)
    );
    ExitCode::FAILURE
}

/// Lets a storm pass over hosts of its own, from one step to another one; returns how many steps there were, and which promises
/// were broken how often.
fn run(words: &Words, seed: u64, from: u64, to: Option<u64>) -> (u64, Vec<(u64, Breach)>) {
    let lab = ground::lab();
    let before = Snapshot::of(&lab);
    let room = Room::of(seed);
    ground::make_networks(&lab, room);
    let mut world = World::new(lab, room);
    world.prepare();
    world.rest();
    let counters = [counters::netd(&world.lab), counters::kernel(&world.lab)];
    (world.judge.sent, world.judge.arrived) = (0, 0);
    let steps = storm(&mut world, words, seed, from, to);
    world.rest();
    let counts = [
        counters::growth(&counters[0], &counters::netd(&world.lab)),
        counters::growth(&counters[1], &counters::kernel(&world.lab)),
    ];
    world.account(&counts);
    world.clear();
    for difference in Snapshot::of(&world.lab).differences(&before) {
        world.judge.breach(Promise::Restored, None, 0, &difference);
    }
    let [netd, kernel] = &counts;
    let sent = world.judge.sent;
    println!("storm: {steps} steps, {sent} datagrams; counted by netd: {netd:?}; by the kernel: {kernel:?}");
    (steps, world.judge.broken().cloned().collect())
}

/// Lets everybody act until the time is over or something is broken; returns the number of steps.
fn storm(world: &mut World, words: &Words, seed: u64, from: u64, to: Option<u64>) -> u64 {
    let deadline = Instant::now() + Duration::from_secs_f64(words.minutes * 60.0);
    let actors = words.actors();
    let mut plan = Plan::new(seed);
    let mut number = 0;
    while to.map_or_else(|| Instant::now() < deadline, |to| number < to) {
        let step = plan.next();
        number += 1;
        if number <= from || !actors.contains(&step.kind) {
            continue;
        }
        world.judge.note(number, &step);
        match step.deed {
            Deed::Begin(opening) => world.begin(step.kind, opening),
            Deed::Say(flow) => world.say(flow),
            Deed::End(flow, reset) => world.end(flow, reset),
            Deed::Burst(burst) => world.burst(step.kind, &burst),
            Deed::Bind(group, nth) => world.bind(step.kind, group, nth),
            ref deed => world.administer(step.kind, deed),
        }
        world.pump(Duration::ZERO);
        if number % ROUND == 0 {
            world.look_at_counters();
            world.look_for_silence();
        }
        if world.judge.is_broken() && !words.keep_going {
            break;
        }
    }
    number
}

impl World {
    /// Lets everything come to rest.
    fn rest(&mut self) {
        self.settle();
        let deadline = Instant::now() + REST;
        while Instant::now() < deadline && (!self.is_quiet() || self.pump(Duration::from_millis(100))) {
            self.pump(Duration::from_millis(20));
            self.look_for_silence();
        }
    }

    /// Checks that what was sent and did not arrive was counted by somebody.
    fn account(&mut self, counts: &[Counts]) {
        let (sent, arrived) = (self.judge.sent, self.judge.arrived);
        let counted: u64 = counts.iter().flat_map(Counts::values).sum();
        if sent > arrived + counted {
            let text =
                format!("{sent} datagrams were sent, {arrived} arrived, and {counted} packets were counted");
            self.judge.breach(Promise::Counted, None, 0, &text);
        }
    }
}
