//! Kernel memory for each connection and each published port.

use std::collections::HashMap;
use std::path::Path;

use aya::maps::MapData;
use netd_common::abi::{MAPS, name};
use netd_tests::report::{Bar, Better, Cell as Found, Comparison, Table};

use super::small::Place;
use super::{Effort, Outcome, number};
use crate::about::figure;
use crate::ground::{self, Contender, Ground, Published, Terms};
use crate::load;
use crate::rounds::{progress, say};

/// Bytes in the kernel's slab caches, by name.
fn slabs() -> HashMap<String, f64> {
    // Waits until freed memory is gone, since namespaces are removed in the background.
    std::thread::sleep(std::time::Duration::from_secs(1));
    let info = std::fs::read_to_string("/proc/slabinfo").expect("read /proc/slabinfo");
    let bytes = |line: &str| -> Option<(String, f64)> {
        let mut fields = line.split_whitespace();
        let name = fields.next()?.to_owned();
        let _active = fields.next()?;
        let objects: f64 = fields.next()?.parse().ok()?;
        let size: f64 = fields.next()?.parse().ok()?;
        Some((name, objects * size))
    };
    info.lines().filter_map(bytes).collect()
}

/// The growth of the slab caches since then, bytes. Caches that have shrunk are not subtracted.
fn grown(before: &HashMap<String, f64>) -> f64 {
    let grown = |(name, after): (String, f64)| after - before.get(&name).copied().unwrap_or(0.0);
    slabs().into_iter().map(grown).filter(|more| *more > 0.0).sum()
}

/// Bytes that were allocated in pages (vmalloc).
fn vmalloc() -> f64 {
    figure("/proc/meminfo", "VmallocUsed") * 1024.0
}

/// Bytes that all pinned maps take.
fn all_maps(pins: &str) -> f64 {
    MAPS.iter().filter(|map| !map.is_of_programs()).map(|map| map_memory(pins, map.name).0).sum()
}

/// The size of a pinned map according to the kernel, bytes, and its number of rows.
fn map_memory(pins: &str, name: &str) -> (f64, f64) {
    use std::os::fd::{AsFd as _, AsRawFd as _};
    let map = MapData::from_pin(Path::new(pins).join("maps").join(name)).expect("open a map");
    let info = format!("/proc/self/fdinfo/{}", map.fd().as_fd().as_raw_fd());
    (figure(&info, "memlock"), figure(&info, "max_entries"))
}

fn pins(ground: &Ground) -> String {
    ground.status()["pins"].as_str().expect("a folder").to_owned()
}

pub(crate) fn measure(effort: Effort) -> Outcome {
    let (flows, connections) = if effort.large { (1_000_000, 1_100_000) } else { (20_000, 110_000) };
    let name_of = number(flows);
    let mut connection = Table::new(
        "memory_connection",
        "Kernel memory for an established connection, both directions",
        "bytes",
        Better::Less,
        ("connections", &[&name_of]),
    );
    progress("memory of connections: conntrack");
    let place = Place::new(Contender::Iptables, Terms::default());
    let before = slabs();
    place.establish(flows);
    let conntrack = grown(&before) / f64::from(flows);
    drop(place);
    connection.push("iptables", vec![Found::found([conntrack])]);
    progress("memory of connections: netd");
    let place = Place::new(Contender::Netd, Terms { connections, ..Terms::default() });
    place.establish(flows);
    let all = all_maps(&pins(&place.ground));
    let (bytes, rows) = map_memory(&pins(&place.ground), name::FLOWS);
    let kept = place.rows();
    assert!(kept >= u64::from(flows) * 2 * 95 / 100, "netd keeps only {kept} rows of {flows} connections");
    drop(place);
    let netd = bytes / rows * 2.0;
    connection.push("netd", vec![Found::found([netd])]);

    let ports = 10_000;
    let mut port = Table::new(
        "memory_port",
        "Memory for a published port",
        "bytes",
        Better::Less,
        ("ports", &["10,000"]),
    );
    let more: Vec<Published> = ground::singles(0..ports).collect();
    let mut measure = |contender: Contender, grow: &dyn Fn(&Ground)| {
        progress(&format!("memory of ports: {}", contender.name()));
        let ground = Ground::new(contender, Terms::default());
        let maps = |ground: &Ground| if contender == Contender::Netd { all_maps(&pins(ground)) } else { 0.0 };
        let before = (slabs(), maps(&ground), vmalloc());
        grow(&ground);
        // Rules are in areas of their own. Rows of tries are in slab caches, which the kernel counts for their maps.
        let each = match contender {
            Contender::Netd => maps(&ground) - before.1,
            _ => grown(&before.0) + (vmalloc() - before.2).max(0.0),
        } / f64::from(ports);
        port.push(contender.name(), vec![Found::found([each])]);
    };
    measure(Contender::Iptables, &|ground| {
        let mut all = ground::published(0);
        all.extend(&more);
        ground.feed("iptables-restore", &ground::docker_rules(&all));
    });
    measure(Contender::Nft, &|ground| ground.feed("nft -f -", &ground::nft_change("add", &more)));
    measure(Contender::Netd, &|ground| ground.publish(&more));
    progress("memory of ports: docker-proxy");
    let ground = Ground::new(Contender::Iptables, Terms::default());
    let proxy = load::docker_proxy(&ground.host, "127.0.0.1", 60_000, "172.17.0.2", 80);
    let status = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", proxy.pid())).expect("its memory");
    let private: f64 = status
        .lines()
        .filter(|line| line.starts_with("Private_"))
        .filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok())
        .sum();
    port.push("docker-proxy, a process each", vec![Found::found([private * 1024.0])]);
    progress("");
    say("memory: done");
    let bars = vec![Bar::new(
        "kernel memory for an established connection, netd, bytes",
        Comparison::AtMost(320.0),
        Found::found([netd]),
    )];
    let note = format!(
        "netd's tables are allocated when it is first used; for {} connections all of them together take {:.0} MB.",
        number(connections),
        all / 1e6
    );
    Outcome { tables: vec![connection, port], bars, notes: vec![note] }
}
