//! Snapshots of a host, to show that netd leaves it as it was.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::lab::Lab;
use crate::netns::Netns;

/// The state of a host, by kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    parts: BTreeMap<String, String>,
}

impl Snapshot {
    /// Links, addresses, routes, rules, sysctls, qdiscs, filters and nftables rules of a host, and this lab's pins,
    /// namespaces and processes.
    pub fn of(lab: &Lab) -> Self {
        let host = &lab.host;
        let mut parts = BTreeMap::new();
        let mut add = |name: &str, value: String| {
            parts.insert(name.to_owned(), value);
        };
        add("links", links(host));
        add("addresses", host.sh("ip -o address show | sed 's/valid_lft.*//'"));
        for table in ["ip -4 route show table all", "ip -6 route show table all", "ip -4 rule", "ip -6 rule"]
        {
            add(table, host.sh(table));
        }
        add("qdiscs", host.sh("tc qdisc show"));
        add("nftables", host.sh("nft --stateless list ruleset"));
        add("switches", host.run(switches));
        for link in ["lo", "up0", "up1"] {
            add(
                &format!("filters of {link}"),
                host.sh(&format!("tc filter show dev {link} ingress; tc filter show dev {link} egress")),
            );
        }
        add("namespaces", own_namespaces(lab));
        add("mounts", mounts(lab));
        add("pins", pins(lab));
        add("processes", processes(lab));
        add("state folder", lab.state_dir().exists().to_string());
        add("log folder", lab.log_dir().exists().to_string());
        Self { parts }
    }

    /// What differs from an earlier snapshot, in words.
    pub fn differences(&self, before: &Self) -> Vec<String> {
        let was = |name| before.parts.get(name).map(String::as_str).unwrap_or_default();
        self.parts
            .iter()
            .filter(|(name, value)| *value != was(name.as_str()))
            .map(|(name, value)| format!("{name} differ.\nbefore:\n{}\nafter:\n{value}", was(name)))
            .collect()
    }

    /// Fails and shows the first difference unless both are equal.
    #[track_caller]
    pub fn assert_same_as(&self, before: &Self) {
        if let Some(difference) = self.differences(before).first() {
            panic!("{difference}");
        }
    }
}

fn links(host: &Netns) -> String {
    // The kernel may list them in another order.
    let mut links: Vec<String> = host
        .sh("ip -o link show")
        .lines()
        .map(|line| line.split_once(": ").expect("a link").1.to_owned())
        .collect();
    links.sort();
    links.join("\n")
}

/// Every network sysctl that can be read, but for the number of connections that the kernel tracks.
fn switches() -> String {
    let mut all = Vec::new();
    collect(Path::new("/proc/sys/net"), &mut all);
    all.retain(|line| !line.contains("nf_conntrack_count"));
    all.sort();
    all.join("\n")
}

fn collect(folder: &Path, all: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, all);
        } else if let Ok(value) = fs::read_to_string(&path) {
            all.push(format!("{}={}", path.display(), value.trim()));
        }
    }
}

/// Namespaces with this lab's names.
fn own_namespaces(lab: &Lab) -> String {
    let prefix = lab.name("");
    let mut names: Vec<String> = fs::read_dir("/run/netns")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    names.retain(|name: &String| name.starts_with(&prefix));
    names.sort();
    names.join("\n")
}

/// Mounts at /run/netns, and of namespaces with this lab's names below it.
fn mounts(lab: &Lab) -> String {
    let own = format!("/run/netns/{}", lab.name(""));
    let all = fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    let points = all.lines().filter_map(|line| line.split(' ').nth(4));
    let mut found: Vec<&str> =
        points.filter(|point| *point == "/run/netns" || point.starts_with(&own)).collect();
    found.sort_unstable();
    found.join("\n")
}

/// Pins of this lab's instances. Their names begin with the cookie of the host's namespace.
fn pins(lab: &Lab) -> String {
    let cookie = cookie(&lab.host);
    let mut found: Vec<String> = fs::read_dir("/sys/fs/bpf/netd")
        .map(|entries| entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        .unwrap_or_default();
    found.retain(|name: &String| name.starts_with(&format!("{cookie}-")));
    found.sort();
    found.join("\n")
}

/// The cookie of a namespace.
pub fn cookie(netns: &Netns) -> u64 {
    netd::Netns::open(&netns.path()).and_then(|netns| netns.cookie()).expect("a cookie")
}

/// Processes that have this lab's state folder in their arguments.
fn processes(lab: &Lab) -> String {
    let state = lab.state_dir().to_string_lossy().into_owned();
    let output = Command::new("ps").args(["-eo", "args"]).output().expect("ps (package procps) starts");
    let mut lines: Vec<String> = String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter(|line| line.contains(&state))
        .map(str::to_owned)
        .collect();
    lines.sort();
    lines.join("\n")
}
