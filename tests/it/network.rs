//! Networks and modes; and that netd's output agrees with that of `ip`.

use netd_tests::lab::Lab;
use netd_tests::netns::sandbox;
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, udp_ask, udp_socket};
use serde_json::{Value, json};

fn ip_json(lab: &Lab, container: Option<&str>, words: &str) -> Value {
    let line = format!("ip -j {words}");
    let output = match container {
        Some(container) => lab.command_in(container, &line).output().unwrap().stdout,
        None => lab.host.sh(&line).into_bytes(),
    };
    serde_json::from_slice(&output).unwrap()
}

#[test]
fn containers_on_one_network_and_the_host_reach_each_other() {
    let lab = Lab::new();
    let (one, two) = (lab.container("one", &[]), lab.container("two", &[]));
    let _tcp = Server::tcp_echo(&sandbox(&two), 80);
    let _udp = Server::udp_echo(&sandbox(&two), 53);
    let _host = Server::tcp_echo(&lab.host.path(), 90);
    let (first, second) = (lab.address(&one), lab.address(&two));
    assert!(lab.command_in(&one, &format!("ping -c 1 -W 10 {second}")).output().unwrap().status.success());
    lab.run_in(&one, || {
        assert_eq!(tcp_first_line(&format!("{second}:80"), PATIENCE).unwrap(), first);
        assert_eq!(udp_ask(&udp_socket(PATIENCE), &format!("{second}:53"), b"x").unwrap().0, b"x");
        assert_eq!(tcp_first_line("172.17.0.1:90", PATIENCE).unwrap(), first);
        // The host is also reached by its other addresses.
        assert_eq!(tcp_first_line("198.18.0.1:90", PATIENCE).unwrap(), first);
    });
    lab.host.run(|| assert_eq!(tcp_first_line(&format!("{second}:80"), PATIENCE).unwrap(), "172.17.0.1"));
    lab.host.sh(&format!("ping -c 1 -W 10 {second}"));
}

#[test]
fn networks_are_listed_with_their_drivers() {
    let lab = Lab::new();
    let list = lab.netd(&["--json", "network", "ls"]).ok().json();
    let drivers: Vec<_> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|network| (network["name"].clone(), network["driver"].clone()))
        .collect();
    assert_eq!(
        drivers,
        [(json!("bridge"), json!("bridge")), (json!("host"), json!("host")), (json!("none"), json!("null"))]
    );
    lab.container("web", &[]);
    let bridge = lab.netd(&["--json", "network", "inspect", "bridge"]).ok().json();
    assert_eq!(bridge["subnets"], json!(["172.17.0.0/16"]));
    assert_eq!(bridge["gateways"], json!(["172.17.0.1"]));
    assert_eq!(bridge["bridge"], "netd0");
    assert_eq!(bridge["containers"][0]["name"], lab.name("web"));
}

#[test]
fn inspect_agrees_with_what_ip_shows() {
    let lab = Lab::with_mtu(1400);
    let web = lab.container("web", &["-p", "8080:80"]);
    let shown = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
    assert_eq!(shown["sandbox"], format!("/run/netns/{web}"));
    assert_eq!(shown["network"], "bridge");
    let inside = &ip_json(&lab, Some(&web), "address show eth0")[0];
    assert_eq!(shown["mac"], inside["address"]);
    assert_eq!(shown["mtu"], inside["mtu"]);
    // The MTU of the default route's interface.
    assert_eq!(shown["mtu"], 1400);
    let address =
        inside["addr_info"].as_array().unwrap().iter().find(|address| address["family"] == "inet").unwrap();
    assert_eq!(shown["addresses"][0]["ip"], address["local"]);
    assert_eq!(shown["addresses"][0]["prefix_len"], address["prefixlen"]);
    let routes = ip_json(&lab, Some(&web), "route show default");
    assert_eq!(shown["addresses"][0]["gateway"], routes[0]["gateway"]);
    let name = shown["host_interface"].as_str().unwrap();
    let outside = &ip_json(&lab, None, &format!("-d link show {name}"))[0];
    assert_eq!(outside["master"], "netd0");
    assert_eq!(outside["ifindex"], inside["link_index"]);
    assert_eq!(shown["ports"][0]["host_port"], 8080);
    // A container without an IPv6 subnet has no IPv6 address, since no source guard would check it.
    assert!(!inside.to_string().contains("inet6"), "{inside}");
}

#[test]
fn a_created_network_has_the_requested_options() {
    let lab = Lab::new();
    let words = [
        "network",
        "create",
        "lab",
        "--subnet",
        "10.20.0.0/24",
        "--gateway",
        "10.20.0.254",
        "--bridge",
        "lab0",
        "--mtu",
        "1300",
    ];
    lab.netd(&words).ok();
    let web = lab.container("web", &["--network", "lab", "--ip", "10.20.0.7", "--mac", "02:00:00:00:00:07"]);
    let shown = lab.netd(&["--json", "container", "inspect", &web]).ok().json();
    assert_eq!(shown["addresses"], json!([{"ip": "10.20.0.7", "prefix_len": 24, "gateway": "10.20.0.254"}]));
    assert_eq!((shown["mac"].clone(), shown["mtu"].clone()), (json!("02:00:00:00:00:07"), json!(1300)));
    let bridge = &ip_json(&lab, None, "address show lab0")[0];
    assert_eq!(bridge["mtu"], 1300);
    assert!(bridge.to_string().contains("10.20.0.254"), "{bridge}");
    lab.netd(&["network", "rm", "lab"]).fails(1, "has containers");
    lab.netd(&["network", "rm", "--force", "lab"]).ok();
    assert!(!lab.host.try_sh("ip link show lab0").status.success());
    lab.netd(&["container", "inspect", &web]).fails(1, "there is no container");
}

#[test]
fn networks_do_not_reach_each_other() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "other"]).ok();
    let here = lab.container("here", &[]);
    let there = lab.container("there", &["--network", "other"]);
    let _server = Server::tcp_echo(&sandbox(&there), 80);
    let address = lab.address(&there);
    assert!(lab.run_in(&here, || tcp_first_line(&format!("{address}:80"), SILENCE)).is_err());
    assert!(!lab.command_in(&here, &format!("ping -c 1 -W 1 {address}")).output().unwrap().status.success());
    // Not even if the host forwards packets.
    lab.host.sh("sysctl -qw net.ipv4.ip_forward=1");
    assert!(lab.run_in(&here, || tcp_first_line(&format!("{address}:80"), SILENCE)).is_err());
    assert!(lab.host.run(|| tcp_first_line(&format!("{address}:80"), PATIENCE)).is_ok());
}

#[test]
fn a_network_without_icc_keeps_its_containers_apart() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "apart", "--no-icc", "--ipv6"]).ok();
    let one = lab.container("one", &["--network", "apart"]);
    let two = lab.container("two", &["--network", "apart", "-p", "8080:80"]);
    let _server = Server::tcp_echo(&sandbox(&two), 80);
    // Neither by link-local addresses nor by multicast.
    let shown = lab.command_in(&two, "ip -6 -o address show dev eth0 scope link").output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    let on_link = shown.split_whitespace().find(|word| word.starts_with("fe80:")).unwrap();
    let on_link = on_link.split('/').next().unwrap();
    for address in [on_link, "ff02::1"] {
        let line = format!("ping -n -c 1 -W 1 {address}%eth0");
        let said = lab.command_in(&one, &line).output().unwrap();
        let said = String::from_utf8_lossy(&said.stdout).into_owned();
        assert!(!said.contains(&format!("from {on_link}")), "{said}");
    }
    let dial = format!("timeout 1 sh -c 'exec 3<>/dev/tcp/{on_link}%eth0/80'");
    let reached = lab.command_in(&one, &format!("bash -c \"{dial}\"")).output().unwrap();
    assert!(!reached.status.success(), "{on_link} was reached");
    let _host = Server::tcp_echo(&lab.host.path(), 90);
    let address = lab.address(&two);
    assert!(lab.run_in(&one, || tcp_first_line(&format!("{address}:80"), SILENCE)).is_err());
    // The gateway is the host, so it is reached.
    let inspected = lab.netd(&["--json", "network", "inspect", "apart"]).ok().json();
    let gateway = inspected["gateways"][0].as_str().unwrap();
    assert!(lab.run_in(&one, || tcp_first_line(&format!("{gateway}:90"), PATIENCE)).is_ok());
    assert!(lab.client.run(|| tcp_first_line("198.18.0.1:8080", PATIENCE)).is_ok());
}

#[test]
fn an_internal_network_has_no_way_out() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "vault", "--internal"]).ok();
    let one = lab.container("one", &["--network", "vault"]);
    let two = lab.container("two", &["--network", "vault"]);
    let _server = Server::tcp_echo(&sandbox(&two), 80);
    let address = lab.address(&two);
    assert!(lab.run_in(&one, || tcp_first_line(&format!("{address}:80"), PATIENCE)).is_ok());
    assert_eq!(ip_json(&lab, Some(&one), "route show default"), json!([]));
    lab.netd(&["publish", "8080:80", &two]).fails(1, "internal");
}

#[test]
fn a_container_cannot_take_anothers_address() {
    let lab = Lab::new();
    let (one, two) = (lab.container("one", &[]), lab.container("two", &[]));
    let _echo = Server::udp_echo(&lab.host.path(), 99);
    let stolen = lab.address(&two);
    lab.command_in(&one, &format!("ip address add {stolen}/16 dev eth0")).status().unwrap();
    let from = format!("{stolen}:0");
    let answer = lab.run_in(&one, || {
        let socket = std::net::UdpSocket::bind(from).unwrap();
        socket.set_read_timeout(Some(SILENCE)).unwrap();
        udp_ask(&socket, "172.17.0.1:99", b"x")
    });
    assert!(answer.is_err(), "a packet with a stolen address got through");
}

#[test]
fn mode_none_has_loopback_only_and_mode_host_is_the_host() {
    let lab = Lab::new();
    let alone = lab.netd(&["run", "--network", "none", "--", "ip", "-j", "address"]).ok().json();
    let names: Vec<_> = alone.as_array().unwrap().iter().map(|link| link["ifname"].clone()).collect();
    assert_eq!(names, [json!("lo")]);
    assert!(alone.to_string().contains("127.0.0.1"), "loopback is up: {alone}");
    let host = lab.netd(&["run", "--network", "host", "--", "ip", "-j", "link"]).ok().json();
    assert!(host.as_array().unwrap().iter().any(|link| link["ifname"] == "up0"));
    // A second server on the same port of the host fails with the kernel's error.
    let _first = Server::tcp_echo(&lab.host.path(), 8088);
    let config = lab.folder.path().join("nginx.conf");
    let folder = lab.folder.path().display();
    std::fs::write(
        &config,
        format!(
            "daemon off; pid {folder}/pid; error_log stderr; events {{}} http {{ client_body_temp_path {folder}/t; \
             proxy_temp_path {folder}/t; fastcgi_temp_path {folder}/t; uwsgi_temp_path {folder}/t; \
             scgi_temp_path {folder}/t; server {{ listen 8088; }} }}"
        ),
    )
    .unwrap();
    let second = lab.netd(&["run", "--network", "host", "--", "nginx", "-c", &config.to_string_lossy()]);
    assert!(!second.status.success());
    assert!(second.stderr.contains("Address already in use"), "{}", second.stderr);
    lab.netd(&["run", "--network", "host", "-p", "80:80", "--", "true"])
        .fails(1, "ports cannot be published");
}

#[test]
fn a_foreign_namespace_is_attached_and_not_removed() {
    let lab = Lab::new();
    let theirs = netd_tests::netns::Netns::new("theirs");
    let name = lab.name("app");
    lab.netd(&["container", "add", &name, "--netns", &theirs.path().to_string_lossy(), "-p", "8080:80"]).ok();
    let _server = Server::tcp_echo(&theirs.path(), 80);
    assert!(lab.client.run(|| tcp_first_line("198.18.0.1:8080", PATIENCE)).is_ok());
    lab.netd(&["container", "add", &lab.name("twice"), "--netns", &theirs.path().to_string_lossy()])
        .fails(1, "already attached");
    lab.netd(&["container", "rm", &name]).ok();
    assert!(theirs.path().exists());
    assert!(!theirs.sh("ip -o link").contains("eth0"));
    // Attached by the number of a process in it.
    let sleeper = theirs.spawn("sleep 60");
    lab.netd(&["container", "add", &name, "--pid", &sleeper.pid().to_string()]).ok();
    assert!(theirs.sh("ip -o link").contains("eth0"));
}

#[test]
fn a_new_address_is_announced() {
    let lab = Lab::new();
    lab.container("first", &[]);
    let capture = lab.folder.path().join("capture");
    let line = format!("tcpdump -l -n -i netd0 arp > {} 2>/dev/null", capture.display());
    let mut command = lab.host.command("sh");
    command.args(["-c", &line]).stderr(std::process::Stdio::null());
    let _tcpdump = netd_tests::netns::Process::new(&mut command);
    let captured = || std::fs::read_to_string(&capture).unwrap_or_default();
    // tcpdump does not say when it is ready; a ping to an unused address makes it print a packet.
    netd_tests::wait_for("tcpdump to listen", PATIENCE, || {
        lab.host.try_sh("ping -c 1 -W 0.1 172.17.9.9");
        captured().contains("172.17.9.9")
    });
    let second = lab.container("second", &[]);
    let address = lab.address(&second);
    let announced = format!("who-has {address} ({address}) tell {address}");
    let alternative = format!("who-has {address} tell {address}");
    let reply = format!("{address} is-at");
    netd_tests::wait_for("the announcement", PATIENCE, || {
        let text = captured();
        [&announced, &alternative, &reply].iter().any(|form| text.contains(form.as_str()))
    });
}
