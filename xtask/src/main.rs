//! netd's development tasks: `cargo xtask VERB`. Dispatch only; each verb has a file.

#![expect(clippy::print_stdout, reason = "a task talks to whoever runs it")]

mod audit;
mod bench;
mod build;
mod demo;
mod dist;
mod fuzz;
mod host;
mod lint;
mod setup;
mod shell;
mod storm;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// netd's development tasks.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install the BPF toolchain and the test tools, if they are missing
    Setup,
    /// Build netd, with the BPF programs inside
    Build {
        /// Optimised, at target/release/netd
        #[arg(long)]
        release: bool,
    },
    /// Make the release in target/dist: a static binary with its manual, as a tarball and as a Debian package
    Dist {
        /// Install both in a clean Debian with systemd, in namespaces, and try them
        #[arg(long)]
        check: bool,
        /// Not optimised, to try something
        #[arg(long)]
        debug: bool,
    },
    /// Check the dependencies: licences, sources, duplicates and, where the database can be had, advisories
    Audit,
    /// Show a web server behind a published port, between network namespaces
    Demo,
    /// Run all tests: first those that need no root, then those with BPF programs and traffic
    Test {
        /// Only tests whose names contain one of these
        filter: Vec<String>,
        /// Run the privileged tests this many times; stop at the first failure
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        repeat: u32,
        /// Run this many busy loops at the same time
        #[arg(long, value_name = "N", default_value_t = 0)]
        busy: u32,
    },
    /// Measure netd beside iptables, nft, docker-proxy and plain routing, in one run; --help says more
    #[command(disable_help_flag = true)]
    Bench {
        /// Arguments of the benchmark: --quick, --only WORK, --profile CONTENDER …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
        words: Vec<String>,
    },
    /// Let everybody act at random on real namespaces, and check what netd promises; --help says more
    #[command(disable_help_flag = true)]
    Storm {
        /// Words for the storm: --minutes N, --seed S, --only ACTOR …
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "WORD")]
        words: Vec<String>,
    },
    /// Check format, lints and documentation
    Lint,
    /// Check the project's own rules
    Tidy,
    /// Fuzz every parser with generated inputs
    Fuzz {
        /// How long each target runs
        #[arg(long, default_value_t = 60)]
        seconds: u32,
        /// Only these targets
        target: Vec<String>,
    },
    /// Run the verifier test, the packet tests and a test of each kind of path on Debian's older kernels, in QEMU
    Vm,
}

fn main() -> ExitCode {
    let outcome = match Xtask::parse().verb {
        Verb::Setup => setup::everything(),
        Verb::Build { release } => build::build(release),
        Verb::Dist { check, debug } => dist::dist(check, debug),
        Verb::Audit => audit::audit(),
        Verb::Demo => demo::demo(),
        Verb::Test { filter, repeat, busy } => test::test(&filter, repeat, busy),
        Verb::Bench { words } => bench::bench(&words),
        Verb::Storm { words } => storm::storm(&words),
        Verb::Lint => lint::lint(),
        Verb::Tidy => tidy::tidy(),
        Verb::Fuzz { seconds, target } => fuzz::fuzz(seconds, &target),
        Verb::Vm => vm::vm(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
