//! The time to publish and to unpublish ports.

use std::fmt::Write as _;
use std::time::Instant;

use netd_tests::report::{Bar, Better, Cell as Found, Comparison, Table};

use super::{Effort, Outcome, fill, number, numbers, put, values};
use crate::ground::{self, Contender, Ground, Published, Terms};
use crate::rounds::{self, Cell, progress};

/// A port that differs from all others.
const ONE_MORE: Published = Published { proto: "tcp", port: 61_000, target: 80 };
/// The range, which is one publication.
const RANGE: &str = "10000-59999:10000-59999";
const RANGE_LEN: u32 = 50_000;

fn seconds(does: impl FnOnce()) -> f64 {
    let start = Instant::now();
    does();
    start.elapsed().as_secs_f64()
}

/// The commands that append rules to Docker's chains, or delete them, in one transaction.
fn restore_lines(verb: &str, ports: &[Published]) -> String {
    let [mut nat, mut filter] = [const { String::new() }; 2];
    for published in ports {
        let [hairpin, dnat, accept] = ground::docker_rule(published);
        let _ = write!(nat, "{verb} {hairpin}\n{verb} {dnat}\n");
        let _ = writeln!(filter, "{verb} {accept}");
    }
    format!("*nat\n{nat}COMMIT\n*filter\n{filter}COMMIT\n")
}

fn one_by_one(ground: &Ground, verb: &str, published: &Published) {
    let [hairpin, dnat, accept] = ground::docker_rule(published);
    ground.host.sh(&format!(
        "iptables -w -t nat {verb} {hairpin} && iptables -w -t nat {verb} {dnat} && iptables -w {verb} {accept}"
    ));
}

fn unpublish(ground: &Ground, ports: &[Published]) {
    let words: Vec<String> = ports.iter().map(|port| format!("{}/{}", port.port, port.proto)).collect();
    let mut all = vec!["unpublish"];
    all.extend(words.iter().map(String::as_str));
    ground.run_netd(&all);
}

pub(crate) fn measure(effort: Effort) -> Outcome {
    let sizes: &[u32] = if effort.large { &[1, 1_000, 10_000] } else { &[1, 1_000] };
    let mut names = numbers(sizes);
    names.push("range of 50,000".to_owned());
    let range = names.len() - 1;
    let names = values(&names);
    let new = |contender| Ground::new(contender, Terms::default());
    let (netd, iptables, nft) = (new(Contender::Netd), new(Contender::Iptables), new(Contender::Nft));
    let table = |id: &str, title: &str| Table::new(id, title, "s", Better::Less, ("ports", &names));
    let mut publish = table("publish", "Time to publish single ports");
    let mut take_back = table("unpublish", "Time to take them back");
    let (netd, iptables, nft) = (&netd, &iptables, &nft);
    let mut cells: Vec<Cell<'_, (f64, f64)>> = Vec::new();
    // A rule for each port is what Docker makes of a range.
    let lists = sizes.iter().copied().chain(effort.large.then_some(RANGE_LEN));
    for (column, size) in lists.enumerate() {
        let ports: Vec<Published> = ground::singles(0..size).collect();
        if column == range {
            // Restores the earlier rules, since iptables takes far longer to delete this many one by one.
            let (add, as_before) = (restore_lines("-A", &ports), ground::docker_rules(&ground::published(0)));
            cells.push(Cell::new("iptables-restore", column, move || {
                let added = seconds(|| iptables.feed("iptables-restore -n", &add));
                (added, seconds(|| iptables.feed("iptables-restore", &as_before)))
            }));
        } else {
            let own = ports.clone();
            cells.push(Cell::new("netd", column, move || {
                (seconds(|| netd.publish(&own)), seconds(|| unpublish(netd, &own)))
            }));
            let [add, remove] = ["-A", "-D"].map(|verb| restore_lines(verb, &ports));
            cells.push(Cell::new("iptables-restore", column, move || {
                let feed = |lines: &str| seconds(|| iptables.feed("iptables-restore -n", lines));
                (feed(&add), feed(&remove))
            }));
        }
        let [add, remove] = ["add", "delete"].map(|verb| ground::nft_change(verb, &ports));
        cells.push(Cell::new("nft -f", column, move || {
            let feed = |lines: &str| seconds(|| nft.feed("nft -f -", lines));
            (feed(&add), feed(&remove))
        }));
    }
    cells.push(Cell::new("netd", range, || {
        let run = |words: &[&str]| {
            seconds(|| {
                netd.run_netd(words);
            })
        };
        (run(&["publish", RANGE, Ground::CONTAINER_NAME]), run(&["unpublish", "10000-59999"]))
    }));
    let samples = rounds::interleave("publishing", effort.rounds.min(3), &mut cells);
    put(&mut publish, &cells, &samples, |(add, _)| *add, "not measured");
    put(&mut take_back, &cells, &samples, |(_, remove)| *remove, "not measured");
    let (one, one_table) = one_more(effort);
    // One by one, each call takes longer the more rules exist. The total is the mean of the measured calls times their
    // number.
    let cells: Vec<Found> = sizes
        .iter()
        .map(|&size| {
            one.total(size).map_or_else(|| Found::without("not measured"), |total| Found::found([total]))
        })
        .chain([Found::without("as 50,000 single ports")])
        .collect();
    publish.push("iptables, one by one", cells);
    progress("");
    let mut bars = Vec::new();
    if effort.large {
        bars.push(Bar::new(
            "10,000 single ports in one command, netd / one-by-one iptables",
            Comparison::AtMost(0.2),
            // One is measured several times, the other is added up once.
            match (publish.cell("netd", "10,000").measured(), one.total(10_000)) {
                (Some(netd), Some(total)) => Found::found([netd.median() / total]),
                _ => Found::without("not measured"),
            },
        ));
    }
    for before in &one_table.parameter.values {
        bars.push(Bar::new(
            &format!("one more port among {before}, netd, ms"),
            Comparison::AtMost(50.0),
            one_table.cell("netd", before),
        ));
    }
    let note = "iptables one by one: added up from calls measured among 0, a quarter, half, three quarters and all of \
                the ports."
        .to_owned();
    Outcome { tables: vec![publish, take_back, one_table], bars, notes: vec![note] }
}

/// The time of three calls of iptables with this many ports.
struct OneByOne {
    among: Vec<(u32, f64)>,
}

impl OneByOne {
    /// The total time for `ports` of them, by the trapezoidal rule between the measured ones; seconds.
    fn total(&self, ports: u32) -> Option<f64> {
        let mut sum = 0.0;
        for pair in self.among.windows(2) {
            let [(from, one), (to, other)] = pair else { continue };
            if *to <= ports {
                sum += f64::from(to - from) * (one + other) / 2.0;
            } else if *from < ports {
                sum += f64::from(ports - from) * one;
            }
        }
        (sum > 0.0).then_some(sum)
    }
}

/// One more port among many: the waiting time of a container that starts.
fn one_more(effort: Effort) -> (OneByOne, Table) {
    let sizes: &[u32] = if effort.large { &[0, 1_000, 10_000, 50_000] } else { &[0, 1_000] };
    let steps: &[u32] = if effort.large { &[0, 1_000, 2_500, 5_000, 7_500, 10_000] } else { &[0, 1_000] };
    let names = numbers(sizes);
    let names = values(&names);
    let title = "Time to publish one more port among many";
    let mut table = Table::new("one_more", title, "ms", Better::Less, ("ports published", &names));
    let places: Vec<(usize, Ground)> = sizes
        .iter()
        .enumerate()
        .flat_map(|(column, &before)| {
            [Contender::Netd, Contender::Iptables, Contender::Nft].map(|contender| {
                progress(&format!("hosts for {} with {} ports", contender.name(), number(before)));
                (column, Ground::new(contender, Terms { before, ..Terms::default() }))
            })
        })
        .collect();
    let cells = places.iter().map(|(column, ground)| {
        Cell::new(ground.contender.name(), *column, move || {
            let one = [ONE_MORE];
            let took = seconds(|| match ground.contender {
                Contender::Netd => ground.publish(&one),
                Contender::Iptables => one_by_one(ground, "-A", &ONE_MORE),
                _ => ground.feed("nft -f -", &ground::nft_change("add", &one)),
            });
            match ground.contender {
                Contender::Netd => unpublish(ground, &one),
                Contender::Iptables => one_by_one(ground, "-D", &ONE_MORE),
                _ => ground.feed("nft -f -", &ground::nft_change("delete", &one)),
            }
            took * 1e3
        })
    });
    fill(&mut table, effort, cells.collect(), "not measured");
    drop(places);
    let among = steps
        .iter()
        .map(|&before| {
            progress(&format!("iptables one by one among {}", number(before)));
            let ground = Ground::new(Contender::Iptables, Terms { before, ..Terms::default() });
            let mut times: Vec<f64> = (0..3)
                .map(|_| {
                    let took = seconds(|| one_by_one(&ground, "-A", &ONE_MORE));
                    one_by_one(&ground, "-D", &ONE_MORE);
                    took
                })
                .collect();
            times.sort_by(f64::total_cmp);
            (before, times[1])
        })
        .collect();
    (OneByOne { among }, table)
}
