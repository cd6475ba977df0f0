//! The benchmark: netd and its alternatives, in one run: `cargo xtask bench`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot measure stops, and says where")]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts become figures"
)]

mod about;
mod ground;
mod latency;
mod live;
mod load;
mod profile;
mod rounds;
mod work;

use std::path::PathBuf;
use std::time::Instant;

use clap::Parser;
use netd_tests::report::Report;

use crate::ground::Contender;
use crate::rounds::say;
use crate::work::{Effort, Outcome, Work};

/// Measures netd and its alternatives, in separate network namespaces.
#[derive(Parser)]
#[command(name = "cargo xtask bench", bin_name = "cargo xtask bench")]
struct Words {
    /// Under three minutes: fewer rounds, no large sizes
    #[arg(long)]
    quick: bool,
    /// How often each figure is measured
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// Only these kinds of work
    #[arg(long, value_name = "WORK", value_delimiter = ',')]
    only: Vec<String>,
    /// Compare only with another (older) netd: small packets and new connections, in turns
    #[arg(long, value_name = "BINARY", conflicts_with_all = ["profile", "document"])]
    baseline: Option<PathBuf>,
    /// Where report.json and the pictures go
    #[arg(long, value_name = "DIR", default_value = "target/bench")]
    out: PathBuf,
    /// Put the tables into this file, between its marks, and the pictures beside it
    #[arg(long, value_name = "FILE")]
    document: Option<PathBuf>,
    /// Instead of measuring, profile the small packets of this contender (needs perf)
    #[arg(long, value_name = "CONTENDER", value_parser = contender)]
    profile: Option<Contender>,
    /// Number of flows of the profile
    #[arg(long, value_name = "N", default_value_t = 1, requires = "profile")]
    flows: u32,
    /// Accepted because cargo passes it to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

fn contender(name: &str) -> Result<Contender, String> {
    let all = Contender::ALL;
    let names = all.map(Contender::name).join(", ");
    all.into_iter().find(|contender| contender.name() == name).ok_or_else(|| format!("there is {names}"))
}

/// Every kind of work, by name.
const WORK: [(&str, Work); 13] = [
    ("small", work::small::measure),
    ("ports", work::small::measure_ports),
    ("connections", work::connections::measure),
    ("local", work::connections::measure_local),
    ("latency", work::requests::measure),
    ("bulk", work::transfers::measure),
    ("masquerade", work::masquerade::measure),
    ("beyond", work::beyond::measure),
    ("unwanted", work::unwanted::measure),
    ("publishing", work::publishing::measure),
    ("commands", work::commands::measure),
    ("memory", work::memory::measure),
    ("scrape", work::scrape::measure),
];

fn main() {
    // Paths are relative to the repository, wherever cargo starts a benchmark.
    std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).expect("enter the repository");
    let words = Words::parse();
    netd_tests::need_root();
    let all = match words.baseline {
        None => WORK.to_vec(),
        Some(ref binary) => work::baseline::compare_with(binary),
    };
    let names: Vec<&str> = all.iter().map(|(name, _)| *name).collect();
    for wanted in &words.only {
        assert!(
            names.contains(&wanted.as_str()),
            "there is no work '{wanted}'; there is {}",
            names.join(", ")
        );
    }
    let effort = Effort {
        rounds: words.rounds.unwrap_or(if words.quick { 2 } else { 3 }),
        packets: if words.quick { 0.08 } else { 0.3 },
        programs: 1.0,
        large: !words.quick,
    };
    let limits = about::ConntrackLimits::raised();
    about::clear_when_interrupted(&limits);
    if let Some(contender) = words.profile {
        return profile::profile(contender, words.flows, &words.out);
    }
    let start = Instant::now();
    let mut report = Report {
        about: about::machine(effort.rounds, words.quick),
        tables: Vec::new(),
        bars: Vec::new(),
        notes: Vec::new(),
    };
    for (name, measure) in all {
        if !words.only.is_empty() && !words.only.iter().any(|wanted| wanted == name) {
            continue;
        }
        let begun = Instant::now();
        let Outcome { tables, bars, notes } = measure(effort);
        say(&format!("{name}: all in all {:.0} s", begun.elapsed().as_secs_f64()));
        report.tables.extend(tables);
        report.bars.extend(bars);
        report.notes.extend(notes);
    }
    report.about.seconds = start.elapsed().as_secs_f64();
    about::write(&report, &words.out, words.document.as_deref());
}
