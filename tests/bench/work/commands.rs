//! The time of commands by the number of containers: the first one on a host, one more container, and `down`.

use std::fmt::Write as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use netd_tests::netd_binary;
use netd_tests::netns::{Netns, unique};
use netd_tests::report::{Bar, Better, Cell as Found, Comparison, Table};
use tempfile::TempDir;

use super::{Effort, Outcome, numbers, values};
use crate::ground;
use crate::rounds::{progress, say};

/// A host with nothing on it but loopback.
struct Host {
    netns: Netns,
    folder: TempDir,
    /// What the names of its containers begin with: namespaces are the whole machine's.
    prefix: String,
}

impl Host {
    fn new() -> Self {
        Self { netns: Netns::new("host"), folder: ground::folder(), prefix: unique("c") }
    }

    /// The time of a command, milliseconds.
    fn netd(&self, words: &[&str]) -> f64 {
        let mut command: Command = self.netns.command(&netd_binary().to_string_lossy());
        command.arg("--state-dir").arg(ground::state_in(self.folder.path())).args(["--quiet", "--no-serve"]);
        let start = Instant::now();
        let status = command.args(words).stdout(Stdio::null()).status().expect("netd starts");
        let took = start.elapsed().as_secs_f64() * 1e3;
        assert!(status.success(), "netd {words:?}: {status}");
        took
    }

    /// The time in which a file with this many containers, and one with this many ports of one, is applied, milliseconds.
    fn apply(&self, containers: u32, ports: u32) -> f64 {
        let Self { prefix, .. } = self;
        let mut text = String::new();
        for number in 0..containers {
            let _ = writeln!(text, "[[container]]\nname = \"{prefix}{number}\"\n");
        }
        if ports > 0 {
            let ports: Vec<String> =
                ground::singles(0..ports).map(|port| format!("\"{}:{}\"", port.port, port.target)).collect();
            let _ = writeln!(text, "[[publish]]\nto = \"{prefix}0\"\nports = [{}]", ports.join(", "));
        }
        let path = self.folder.path().join("netd.toml");
        std::fs::write(&path, text).expect("write a file");
        self.netd(&["apply", &path.to_string_lossy()])
    }
}

pub(crate) fn measure(effort: Effort) -> Outcome {
    let start = Instant::now();
    // The kernel's limit of a bridge is 1,023 ports.
    let sizes: &[u32] = if effort.large { &[0, 100, 1_022] } else { &[0, 100] };
    let names = numbers(sizes);
    let names = values(&names);
    let mut table =
        Table::new("commands", "Time of commands by containers", "ms", Better::Less, ("containers", &names));
    let rows = ["container add", "container rm", "down"];
    let mut cells = rows.map(|_| Vec::new());
    for &size in sizes {
        progress(&format!("commands among {size} containers"));
        let mut samples = rows.map(|_| Vec::new());
        for _round in 0..effort.rounds {
            let host = Host::new();
            if size > 0 {
                host.apply(size, 0);
            }
            let one = format!("{}one", host.prefix);
            let [add, remove, down] = &mut samples;
            add.push(host.netd(&["container", "add", &one]));
            remove.push(host.netd(&["container", "rm", &one]));
            down.push(host.netd(&["down"]));
        }
        for (cells, samples) in cells.iter_mut().zip(samples) {
            cells.push(Found::found(samples));
        }
    }
    for (row, cells) in rows.into_iter().zip(cells) {
        table.push(row, cells);
    }
    let applied = applied(effort);
    progress("");
    say(&format!("commands: {:.0} s", start.elapsed().as_secs_f64()));
    let mut bars = vec![bar("first command on a host, ms", 300.0, &table, "container add", names.first())];
    if effort.large {
        let last = names.last();
        bars.push(bar("one more container among 1,022, ms", 60.0, &table, "container add", last));
        bars.push(bar("down of 1,022 containers, ms", 5_000.0, &table, "down", last));
        bars.push(bar("apply of 10,000 publications, ms", 1_000.0, &applied, "netd apply", Some(&"10,000")));
    }
    let note = "\"container add\" among 0 containers is the first command on a host: it loads the programs."
        .to_owned();
    Outcome { tables: vec![table, applied], bars, notes: vec![note] }
}

fn bar(what: &str, most: f64, table: &Table, row: &str, column: Option<&&str>) -> Bar {
    let found = column.map_or_else(|| Found::without("not measured"), |column| table.cell(row, column));
    Bar::new(what, Comparison::AtMost(most), found)
}

/// The time in which a file with many publications is applied to a host that has the container.
fn applied(effort: Effort) -> Table {
    let sizes: &[u32] = if effort.large { &[1_000, 10_000] } else { &[1_000] };
    let names = numbers(sizes);
    let names = values(&names);
    let mut table =
        Table::new("apply", "Time to apply a file with single ports", "ms", Better::Less, ("ports", &names));
    let cells = sizes.iter().map(|&size| {
        Found::found((0..effort.rounds).map(|_| {
            let host = Host::new();
            host.apply(1, 0);
            let took = host.apply(1, size);
            host.netd(&["down"]);
            took
        }))
    });
    let cells = cells.collect();
    table.push("netd apply", cells);
    table
}
