//! Real programs as load: nginx and wrk, iperf3, docker-proxy. Servers stay on the first CPU, clients on the other.

use std::process::Stdio;
use std::time::Duration;

use netd_tests::netns::{Netns, Process};
use netd_tests::{nginx, wait_for};
use serde_json::Value;
use tempfile::TempDir;

use crate::ground::{self, Ground};

/// The connections that wrk keeps open at once.
const CLIENTS: &str = "16";
/// The content of every page.
const PAGE: &str = "netd\\n";

/// A web server that runs in a namespace, with its files.
pub(crate) struct Server {
    _process: Process,
    _folder: TempDir,
}

/// nginx on port 80 and 81, one worker.
pub(crate) fn nginx(netns: &Netns) -> Server {
    let folder = ground::folder();
    let config = nginx::configure(
        folder.path(),
        "worker_processes 1; worker_cpu_affinity 01; worker_rlimit_nofile 65536;",
        "worker_connections 16384;",
        &format!("listen 80 backlog=4096; listen 81 backlog=4096; location / {{ return 200 \"{PAGE}\"; }}"),
    );
    netns.sh("sysctl -qw net.core.somaxconn=4096");
    let process = netns.spawn(&format!("nginx -c {}", config.display()));
    wait_for("nginx to listen", Duration::from_secs(10), || listens(netns, 80));
    Server { _process: process, _folder: folder }
}

/// iperf3 on a port.
pub(crate) fn iperf3(netns: &Netns, port: u16) -> Process {
    let process = netns.spawn(&format!("taskset 1 iperf3 -s -p {port}"));
    wait_for("iperf3 to listen", Duration::from_secs(10), || listens(netns, port));
    process
}

/// docker-proxy, as dockerd 20.10 starts it for a published port.
pub(crate) fn docker_proxy(
    host: &Netns,
    address: &str,
    port: u16,
    target: &str,
    target_port: u16,
) -> Process {
    // It writes to file descriptor 3 when it is ready.
    let line = format!(
        "docker-proxy -proto tcp -host-ip {address} -host-port {port} -container-ip {target} -container-port {target_port}"
    );
    let process = Process::new(
        host.command("sh")
            .args(["-c", &format!("exec 3>/dev/null; exec {line}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null()),
    );
    wait_for("docker-proxy to listen", Duration::from_secs(10), || listens(host, port));
    process
}

fn listens(netns: &Netns, port: u16) -> bool {
    netns.sh("ss -Hltn").lines().any(|line| line.contains(&format!(":{port} ")))
}

/// Lets a client use all ports for connections.
pub(crate) fn ready_client(netns: &Netns) {
    netns.sh("sysctl -qw net.ipv4.ip_local_port_range='1024 65535' net.ipv4.tcp_tw_reuse=1");
}

/// New connections a second, one request each.
pub(crate) fn connections(netns: &Netns, url: &str, seconds: f64) -> f64 {
    // wrk counts whole seconds.
    let whole = seconds.ceil();
    let said = netns.sh(&format!(
        "exec taskset 2 wrk -t1 -c{CLIENTS} -d{whole}s --timeout 5s -H 'Connection: close' {url}"
    ));
    assert!(!said.contains("Socket errors"), "wrk {url}: {said}");
    assert!(!said.contains("Non-2xx"), "wrk {url}: {said}");
    let rate = said.lines().find_map(|line| line.strip_prefix("Requests/sec:")).expect("wrk's rate");
    rate.trim().parse().expect("a number")
}

/// The direction of a bulk transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Towards the server.
    In,
    /// From it.
    Out,
    /// Both.
    Both,
}

/// The result of a bulk transfer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bulk {
    /// 10^9 bits a second.
    pub(crate) gbits: f64,
    /// Seconds of CPU time for 10^9 bits, both ends and everything between.
    pub(crate) cpu: f64,
}

/// Keeps both CPUs busy at the lowest priority, since a hypervisor needs longer to wake up a CPU than a packet needs to
/// arrive.
pub(crate) struct Awake {
    _spinners: [Process; 2],
}

impl Awake {
    /// The programs run in a namespace and end with it.
    pub(crate) fn new(netns: &Netns) -> Self {
        let spinner = |cpus: u32| {
            netns.spawn(&format!("nice -n 19 chrt -i 0 taskset {cpus} sh -c 'while :; do :; done'"))
        };
        Self { _spinners: [spinner(1), spinner(2)] }
    }
}

/// Bytes of socket buffers for all streams of a transfer together, at each end. The data then fits a CPU's cache; with
/// more, the memory is measured, which varies by a factor of two for every contender.
const BUFFERS: u32 = 2 << 20;

/// Transfers data by TCP; the CPUs should be [`Awake`].
pub(crate) fn bulk(
    ground: &Ground,
    from: &Netns,
    to: (&str, u16),
    way: Way,
    streams: u32,
    seconds: f64,
) -> Bulk {
    let most = BUFFERS / streams;
    for netns in [&ground.client, &ground.host, &ground.container] {
        netns.sh(&format!(
            "sysctl -qw net.ipv4.tcp_rmem='4096 131072 {most}' net.ipv4.tcp_wmem='4096 16384 {most}'"
        ));
    }
    let (address, port) = to;
    let way = match way {
        Way::In => "",
        Way::Out => "-R",
        Way::Both => "--bidir",
    };
    let before = busy();
    let said = from.sh(&format!(
        "exec taskset 2 iperf3 -J -c {address} -p {port} -P {streams} -t {} {way}",
        seconds.ceil()
    ));
    let cpu = busy() - before;
    let said: Value = serde_json::from_str(&said).expect("iperf3's JSON");
    let received = |name: &str| said["end"][name]["bits_per_second"].as_f64().unwrap_or(0.0);
    let bytes = |name: &str| said["end"][name]["bytes"].as_f64().unwrap_or(0.0);
    let (one, other) = ("sum_received", "sum_received_bidir_reverse");
    let bits = (bytes(one) + bytes(other)) * 8.0;
    assert!(bits > 0.0, "iperf3 {address}:{port} {way}: nothing arrived: {}", said["error"]);
    Bulk { gbits: (received(one) + received(other)) / 1e9, cpu: cpu / (bits / 1e9) }
}

/// CPU seconds of the machine at ordinary priorities, that is without [`Awake`].
fn busy() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").expect("read /proc/stat");
    let line = stat.lines().next().expect("the sum of all CPUs");
    let fields: Vec<f64> =
        line.split_whitespace().skip(1).map(|field| field.parse().expect("a number")).collect();
    // user nice system idle iowait irq softirq steal
    let idle = fields[1] + fields[3] + fields[4] + fields.get(7).copied().unwrap_or(0.0);
    (fields.iter().take(8).sum::<f64>() - idle) / 100.0
}
