//! netd as the CNI plugin `portmap`, behind the `bridge` plugin of the CNI project, which makes the interfaces.

use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use netd_tests::lab::{CLIENT, HOST, HOST_OUTSIDE, Lab, OUTSIDE};
use netd_tests::netd_binary;
use netd_tests::netns::Netns;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_answers, udp_socket};
use netd_tests::snapshot::Snapshot;
use serde_json::{Value, json};

/// Where Debian has the plugins.
const PLUGINS: &str = "/usr/lib/cni";
/// The name by which netd acts as the plugin.
const PORTMAP: &str = "portmap";

/// A node with a network `pods` of the `bridge` plugin, and netd as its `portmap`.
struct Node {
    lab: Lab,
    portmap: PathBuf,
}

/// A pod that `bridge` has attached.
struct Pod {
    netns: Netns,
    id: String,
    address: String,
    result: Value,
}

/// What a plugin has answered.
struct Answer {
    succeeded: bool,
    json: Value,
}

impl Answer {
    #[track_caller]
    fn ok(self) -> Value {
        assert!(self.succeeded, "{}", self.json);
        self.json
    }

    #[track_caller]
    fn fails(self, code: u64, part: &str) {
        assert!(!self.succeeded, "{}", self.json);
        assert_eq!(self.json["code"], code, "{}", self.json);
        assert!(self.json["msg"].as_str().unwrap().contains(part), "{}", self.json);
    }
}

impl Node {
    fn new() -> Self {
        let lab = Lab::new();
        lab.host.sh("sysctl -qw net.ipv4.ip_forward=1");
        let portmap = lab.folder.path().join(PORTMAP);
        symlink(netd_binary(), &portmap).unwrap();
        Self { lab, portmap }
    }

    /// Calls a plugin as a runtime does.
    #[track_caller]
    fn call(&self, plugin: &str, command: &str, variables: &[(&str, &str)], config: &Value) -> Answer {
        let mut call: Command = self.lab.host.command(plugin);
        call.env("CNI_COMMAND", command).env("CNI_PATH", PLUGINS).envs(variables.iter().copied());
        call.env("NETD_STATE_DIR", self.lab.state_dir()).env("NETD_LOG_DIR", self.lab.log_dir());
        call.env("NETD_NO_SERVE", "1").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = call.spawn().unwrap_or_else(|error| panic!("{plugin}: {error}"));
        child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let json = if text.trim().is_empty() { Value::Null } else { serde_json::from_str(&text).unwrap() };
        Answer { succeeded: output.status.success(), json }
    }

    fn bridge_config(&self) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true,
            "ipam": {
                "type": "host-local", "dataDir": self.lab.folder.path().join("ipam"),
                "ranges": [[{ "subnet": "10.244.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }],
            },
        })
    }

    /// A pod with the interface that `bridge` gives it.
    fn pod(&self, label: &str) -> Pod {
        let netns = Netns::new(label);
        let id = format!("{:0<64}", netns.name.replace('-', "a"));
        let (path, config) = (netns.path(), self.bridge_config());
        let variables =
            [("CNI_CONTAINERID", id.as_str()), ("CNI_NETNS", path.to_str().unwrap()), ("CNI_IFNAME", "eth0")];
        let result = self.call(&format!("{PLUGINS}/bridge"), "ADD", &variables, &config).ok();
        let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap().to_owned();
        Pod { netns, id, address, result }
    }

    fn remove(&self, pod: &Pod) {
        let (path, config) = (pod.netns.path(), self.bridge_config());
        let variables = [
            ("CNI_CONTAINERID", pod.id.as_str()),
            ("CNI_NETNS", path.to_str().unwrap()),
            ("CNI_IFNAME", "eth0"),
        ];
        self.call(&format!("{PLUGINS}/bridge"), "DEL", &variables, &config).ok();
    }

    fn portmap_config(pod: &Pod, mappings: &Value) -> Value {
        json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "portmap", "snat": true,
            "capabilities": { "portMappings": true }, "prevResult": pod.result,
            "runtimeConfig": { "portMappings": mappings },
        })
    }

    #[track_caller]
    fn portmap(&self, command: &str, pod: &Pod, config: &Value) -> Answer {
        let path = pod.netns.path();
        let variables = [
            ("CNI_CONTAINERID", pod.id.as_str()),
            ("CNI_NETNS", path.to_str().unwrap()),
            ("CNI_IFNAME", "eth0"),
        ];
        self.call(self.portmap.to_str().unwrap(), command, &variables, config)
    }
}

fn seen(netns: &Netns, to: &str, patience: Duration) -> Option<String> {
    netns.run(|| tcp_first_line(to, patience)).ok()
}

#[test]
fn a_pods_ports_are_published_and_removed() {
    let node = Node::new();
    let lab = &node.lab;
    let (web, other) = (node.pod("web"), node.pod("other"));
    let before = Snapshot::of(lab);
    let mappings = json!([
        { "HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": "" },
        { "hostPort": 8081, "containerPort": 80, "protocol": "tcp", "hostIP": "127.0.0.1" },
        { "hostPort": 5353, "containerPort": 53, "protocol": "UDP" },
    ]);
    let config = Node::portmap_config(&web, &mappings);
    assert_eq!(node.portmap("ADD", &web, &config).ok(), web.result, "the previous result is handed on");
    let _servers = [&web, &other].map(|pod| Server::tcp_echo(&pod.netns.path(), 80));
    let _dns = Server::udp_echo(&web.netns.path(), 53);
    let _far = Server::tcp_echo(&lab.outside.path(), 80);

    let published = format!("{HOST}:8080");
    assert_eq!(seen(&lab.client, &published, PATIENCE).as_deref(), Some(CLIENT));
    assert!(seen(&lab.host, "127.0.0.1:8080", PATIENCE).is_some());
    assert!(seen(&lab.host, "127.0.0.1:8081", PATIENCE).is_some());
    assert!(seen(&lab.client, &format!("{HOST}:8081"), SILENCE).is_none());
    assert_eq!(seen(&other.netns, &published, PATIENCE), Some(other.address.clone()));
    assert!(seen(&web.netns, &published, PATIENCE).is_some(), "the pod itself");
    lab.client.run(|| udp_answers(&udp_socket(PATIENCE), &format!("{HOST}:5353"), true));
    // The bridge plugin masquerades.
    for pod in [&web, &other] {
        assert_eq!(seen(&pod.netns, &format!("{OUTSIDE}:80"), PATIENCE).as_deref(), Some(HOST_OUTSIDE));
    }
    node.portmap("CHECK", &web, &config).ok();

    // The containers are gone, and DEL comes several times, without a namespace and without the previous result.
    let bare = json!({ "cniVersion": "1.0.0", "name": "pods", "type": "portmap" });
    let variables = [("CNI_CONTAINERID", web.id.as_str()), ("CNI_IFNAME", "eth0")];
    for _again in 0..3 {
        node.call(node.portmap.to_str().unwrap(), "DEL", &variables, &bare).ok();
    }
    assert!(seen(&lab.client, &published, SILENCE).is_none());
    assert_eq!(lab.netd(&["--json", "container", "ls"]).ok().json(), json!([]));
    node.portmap("CHECK", &web, &config).fails(3, "no ports of container");
    lab.netd(&["down"]).ok();
    Snapshot::of(lab).assert_same_as(&before);
    node.remove(&web);
}

#[test]
fn a_pod_without_ports_is_left_alone() {
    let node = Node::new();
    let pod = node.pod("plain");
    let before = Snapshot::of(&node.lab);
    assert_eq!(node.portmap("ADD", &pod, &Node::portmap_config(&pod, &json!([]))).ok(), pod.result);
    node.portmap("CHECK", &pod, &Node::portmap_config(&pod, &json!([]))).ok();
    node.portmap("DEL", &pod, &Node::portmap_config(&pod, &json!([]))).ok();
    Snapshot::of(&node.lab).assert_same_as(&before);
}

#[test]
fn two_claimants_of_a_port_do_not_disturb_each_other() {
    let node = Node::new();
    let (first, second) = (node.pod("first"), node.pod("second"));
    let mappings = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    node.portmap("ADD", &first, &Node::portmap_config(&first, &mappings)).ok();
    let config = Node::portmap_config(&second, &mappings);
    node.portmap("ADD", &second, &config).fails(102, "port 8080:80/tcp is in use");
    node.portmap("DEL", &second, &config).ok();
    let _server = Server::tcp_echo(&first.netns.path(), 80);
    assert!(seen(&node.lab.client, &format!("{HOST}:8080"), PATIENCE).is_some());
    // The same attachment again is the same.
    node.portmap("ADD", &first, &Node::portmap_config(&first, &mappings)).ok();
    assert!(seen(&node.lab.client, &format!("{HOST}:8080"), PATIENCE).is_some());
    // Its interface goes without a DEL; then the port is free.
    node.remove(&first);
    node.portmap("ADD", &second, &config).ok();
}

#[test]
fn attachments_that_are_not_in_use_are_collected() {
    let node = Node::new();
    let (kept, lost) = (node.pod("kept"), node.pod("lost"));
    for (pod, port) in [(&kept, 8080), (&lost, 8081)] {
        let mappings = json!([{ "hostPort": port, "containerPort": 80, "protocol": "tcp" }]);
        node.portmap("ADD", pod, &Node::portmap_config(pod, &mappings)).ok();
    }
    let config = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "portmap",
        "cni.dev/valid-attachments": [{ "containerID": kept.id, "ifname": "eth0" }],
    });
    node.call(node.portmap.to_str().unwrap(), "GC", &[], &config).ok();
    let ports = node.lab.netd(&["--json", "ports"]).ok().json();
    assert_eq!(ports.as_array().unwrap().len(), 1, "{ports}");
    assert_eq!(ports[0]["host_port"], 8080);
}

#[test]
fn conditions_become_access_lists() {
    let node = Node::new();
    let pod = node.pod("guarded");
    let mappings = json!([{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }]);
    let mut config = Node::portmap_config(&pod, &mappings);
    config["conditionsV4"] = json!(["!", "-s", format!("{CLIENT}/32")]);
    node.portmap("ADD", &pod, &config).ok();
    let _server = Server::tcp_echo(&pod.netns.path(), 80);
    assert!(seen(&node.lab.client, &format!("{HOST}:8080"), SILENCE).is_none());
    assert!(seen(&node.lab.outside, &format!("{HOST_OUTSIDE}:8080"), PATIENCE).is_some());
    config["conditionsV4"] = json!(["-m", "mark"]);
    node.portmap("ADD", &pod, &config).fails(2, "condition '-m mark' is not supported");
}

#[test]
fn failures_have_the_codes_of_the_specification() {
    let node = Node::new();
    let portmap = node.portmap.to_str().unwrap();
    let version =
        node.call(portmap, "VERSION", &[("CNI_NETNS", "dummy")], &json!({ "cniVersion": "1.0.0" })).ok();
    assert_eq!(version["cniVersion"], "1.0.0");
    assert!(version["supportedVersions"].as_array().unwrap().contains(&json!("0.3.1")));
    node.call(portmap, "STATUS", &[], &json!({ "cniVersion": "1.1.0", "name": "pods" })).ok();
    let config = json!({ "cniVersion": "1.0.0", "name": "pods" });
    node.call(portmap, "ADD", &[], &config).fails(7, "prevResult");
    node.call(portmap, "DEL", &[], &config).fails(4, "CNI_CONTAINERID is not set");
    node.call(portmap, "JUMP", &[], &config).fails(4, "JUMP");
    node.call(portmap, "ADD", &[], &json!({ "cniVersion": "9.0.0", "name": "pods" })).fails(1, "9.0.0");
    // An interface that is no port of a bridge.
    let pod = Netns::new("ptp");
    let path = pod.path();
    node.lab.host.ip(&format!("link add ptp0 type veth peer name eth0 netns {}", pod.name));
    let variables =
        [("CNI_CONTAINERID", "c1"), ("CNI_NETNS", path.to_str().unwrap()), ("CNI_IFNAME", "eth0")];
    let config = json!({
        "cniVersion": "1.0.0", "name": "pods", "prevResult": {},
        "runtimeConfig": { "portMappings": [{ "hostPort": 80, "containerPort": 80, "protocol": "tcp" }] },
    });
    node.call(portmap, "ADD", &variables, &config).fails(7, "is not a port of a bridge");
}

#[test]
fn many_pods_at_once_lose_nothing() {
    const PODS: u16 = 20;
    let node = Node::new();
    let pods: Vec<Pod> = (0..PODS).map(|number| node.pod(&format!("p{number}"))).collect();
    let mappings =
        |number: u16| json!([{ "hostPort": 9000 + number, "containerPort": 80, "protocol": "tcp" }]);
    let all = |command: &str| {
        std::thread::scope(|scope| {
            for (pod, number) in pods.iter().zip(0..) {
                let node = &node;
                scope.spawn(move || {
                    node.portmap(command, pod, &Node::portmap_config(pod, &mappings(number))).ok();
                });
            }
        });
    };
    all("ADD");
    let ports = node.lab.netd(&["--json", "ports"]).ok().json();
    assert_eq!(ports.as_array().unwrap().len(), usize::from(PODS));
    all("CHECK");
    all("DEL");
    assert_eq!(node.lab.netd(&["--json", "ports"]).ok().json(), json!([]));
    assert_eq!(node.lab.netd(&["--json", "container", "ls"]).ok().json(), json!([]));
}
