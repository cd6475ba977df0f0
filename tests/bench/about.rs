//! The machine, and the files that the figures are written to.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use netd_tests::netd_binary;
use netd_tests::netns::own_prefix;
use netd_tests::report::svg::{self, Scale};
use netd_tests::report::{About, Report, Table, Verdict, markdown, text};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::Pid;

use crate::ground;
use crate::rounds::say;

/// The size of conntrack's table during the run: more connections than any work makes, and a hash table without long
/// chains. All namespaces share both, and a full table would drop the packets that are measured.
const CONNTRACK: [(&str, u64); 2] = [("nf_conntrack_max", 4_000_000), ("nf_conntrack_buckets", 1 << 22)];

/// The machine's limits on conntrack, put back when dropped.
pub(crate) struct ConntrackLimits {
    before: Vec<(PathBuf, String)>,
}

impl ConntrackLimits {
    pub(crate) fn raised() -> Self {
        let mut before = Vec::new();
        for (name, most) in CONNTRACK {
            let file = Path::new("/proc/sys/net/netfilter").join(name);
            if let Ok(value) = fs::read_to_string(&file) {
                fs::write(&file, most.to_string()).unwrap_or_else(|error| panic!("raise {name}: {error}"));
                before.push((file, value));
            }
        }
        Self { before }
    }
}

impl Drop for ConntrackLimits {
    fn drop(&mut self) {
        for (file, value) in &self.before {
            if let Err(error) = fs::write(file, value) {
                say(&format!("{} is not what it was, {}: {error}", file.display(), value.trim()));
            }
        }
    }
}

/// Cleans up when the run is interrupted: the limits, the namespaces of this process with their programs, and netd's
/// pins.
pub(crate) fn clear_when_interrupted(limits: &ConntrackLimits) {
    let limits = ConntrackLimits { before: limits.before.clone() };
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM].into_iter().collect();
    signals.thread_block().expect("keep signals for their thread");
    std::thread::spawn(move || {
        let signal = signals.wait().expect("wait for a signal");
        // Threads that fail because of this cleanup wait here. Otherwise they would clean up at the same time.
        std::panic::set_hook(Box::new(|_| {
            loop {
                std::thread::park();
            }
        }));
        drop(limits);
        for namespace in named(Path::new("/run/netns"), &own_prefix()) {
            end_all_in(&namespace);
            let _gone = Command::new("ip").args(["netns", "delete"]).arg(&namespace).status();
        }
        let folders = std::env::temp_dir();
        for name in named(&folders, &ground::folder_prefix()) {
            let folder = folders.join(name);
            let state = ground::state_in(&folder);
            if state.exists() {
                let _down = Command::new(netd_binary())
                    .arg("--state-dir")
                    .arg(state)
                    .args(["--quiet", "down", "--all"])
                    .status();
            }
            let _gone = fs::remove_dir_all(folder);
        }
        say(&format!("interrupted by {signal}"));
        std::process::exit(130);
    });
}

/// The names in a folder that start with a prefix.
fn named(folder: &Path, prefix: &str) -> Vec<OsString> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name());
    names.filter(|name| name.to_string_lossy().starts_with(prefix)).collect()
}

/// Kills the programs in a namespace, except this one.
fn end_all_in(namespace: &OsStr) {
    let Ok(listed) = Command::new("ip").args(["netns", "pids"]).arg(namespace).output() else { return };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for pid in listed.split_whitespace().filter_map(|pid| pid.parse().ok()).map(Pid::from_raw) {
        if pid != Pid::this() {
            let _gone = kill(pid, Signal::SIGKILL);
        }
    }
}

fn first_line(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output();
    let text = output.map(|output| {
        let all = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&all).into_owned()
    });
    text.unwrap_or_default().lines().next().unwrap_or("not found").trim().to_owned()
}

/// The value after the colon on the line of this name in a file; empty if there is none.
fn field(file: &str, name: &str) -> String {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
}

/// The number at the start of a text.
pub(crate) fn figure(file: &str, name: &str) -> f64 {
    let field = field(file, name);
    let number = field.split_whitespace().next().unwrap_or_default();
    number.parse().unwrap_or_else(|_| panic!("{file} has no number for {name}"))
}

/// This machine and its tools.
pub(crate) fn machine(rounds: usize, quick: bool) -> About {
    let versions = [
        ("netd", netd_tests::netd_binary().to_string_lossy().into_owned(), "--version"),
        ("iptables", "iptables".to_owned(), "--version"),
        ("nft", "nft".to_owned(), "--version"),
        ("nginx", "nginx".to_owned(), "-v"),
        ("wrk", "wrk".to_owned(), "-v"),
        ("iperf3", "iperf3".to_owned(), "--version"),
    ];
    let mut versions: BTreeMap<String, String> = versions
        .iter()
        .map(|(name, program, word)| ((*name).to_owned(), first_line(program, &[word])))
        .collect();
    let package = first_line("dpkg-query", &["-W", "-f=${Version}", "docker.io"]);
    versions.insert("docker.io".to_owned(), package);
    for (name, option) in [("nft flowtable", "nf_flow_table"), ("IPVS", "ip_vs")] {
        let has = Path::new("/sys/module").join(option).exists();
        versions.insert(
            name.to_owned(),
            if has { "present, not measured" } else { "not in this kernel" }.to_owned(),
        );
    }
    About {
        date: first_line("date", &["-u", "+%Y-%m-%d %H:%M UTC"]),
        commit: first_line("git", &["describe", "--always", "--dirty"]),
        cpu: field("/proc/cpuinfo", "model name"),
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        memory: format!("{:.0} GiB", figure("/proc/meminfo", "MemTotal") / 1024.0 / 1024.0),
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
        versions,
        rounds,
        quick,
        seconds: 0.0,
        command: std::env::args()
            .skip(1)
            .filter(|word| word != "--bench")
            .fold("cargo xtask bench".to_owned(), |line, word| line + " " + &word),
    }
}

/// The picture of a table; none for some tables.
fn picture(table: &Table) -> Option<String> {
    match table.id.as_str() {
        "connections" | "ports_stream" => Some(svg::lines(table, Scale::Log)),
        "small_in" | "small_out" | "beyond" | "local_connections" | "latency" | "bulk" => {
            Some(svg::bars(table, Scale::Linear))
        }
        _ => None,
    }
}

/// Shows the report, and writes it: everything as JSON and the pictures to `out`, the tables into a document.
pub(crate) fn write(report: &Report, out: &Path, document: Option<&Path>) {
    use std::io::IsTerminal as _;
    let mut stdout = std::io::stdout();
    let colours = stdout.is_terminal();
    text::write(&mut stdout, report, colours).expect("show the report");
    fs::create_dir_all(out).expect("make a folder for the report");
    let mut json = fs::File::create(out.join("report.json")).expect("make report.json");
    report.json(&mut json).expect("write report.json");
    let draw = |folder: &Path| {
        fs::create_dir_all(folder).expect("make a folder for the pictures");
        for table in &report.tables {
            if let Some(picture) = picture(table) {
                fs::write(folder.join(format!("{}.svg", table.id)), picture).expect("write a picture");
            }
        }
    };
    draw(out);
    if let Some(document) = document {
        let folder = document.parent().unwrap_or(Path::new(".")).join("performance");
        draw(&folder);
        let body =
            markdown::body(report, |table| picture(table).map(|_| format!("performance/{}.svg", table.id)));
        let before = fs::read_to_string(document).expect("read the document");
        let after = markdown::splice(&before, &body).expect("find the document's marks");
        fs::write(document, after).expect("write the document");
    }
    say(&format!(
        "{} bars held, {} missed; {}",
        report.count(Verdict::Held),
        report.count(Verdict::Missed),
        out.join("report.json").display()
    ));
}
