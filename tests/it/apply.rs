//! The desired state in files: what is missing is made, what differs is changed, and nothing else is touched.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use netd_tests::lab::{CLIENT, HOST, Lab, Said};
use netd_tests::netns::{Netns, sandbox};
use netd_tests::probe::{PATIENCE, SILENCE, Server, tcp_first_line, tcp_on};
use netd_tests::snapshot::Snapshot;

/// A file in the test's folder.
fn file(lab: &Lab, name: &str, text: &str) -> String {
    let path: PathBuf = lab.folder.path().join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Applies a text.
#[track_caller]
fn apply(lab: &Lab, text: &str) -> String {
    lab.netd(&["apply", &file(lab, "netd.toml", text)]).ok().stdout
}

/// Gives a command a text on standard input.
fn netd_with_input(lab: &Lab, words: &[&str], text: &str) -> Said {
    let mut command = lab.netd_command(words);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    Said::of(&child.wait_with_output().unwrap(), words)
}

fn saved(lab: &Lab) -> String {
    lab.netd(&["save"]).ok().stdout
}

/// The host's interfaces and the named namespaces of this lab.
fn there(lab: &Lab) -> String {
    let links = lab.host.sh("ip -o link | cut -d: -f2 | sort");
    let names =
        lab.host.sh(&format!("ip netns list | cut -d' ' -f1 | grep ^{} | sort || true", lab.name("")));
    format!("{links}{names}")
}

/// A network, a container and ports.
fn shop(lab: &Lab) -> String {
    let shop = lab.name("shop");
    format!(
        r#"
[settings]
quota = "70%"

[timeouts]
established = "1d"

[[network]]
name = "web"
subnets = ["10.5.0.0/24"]

[[container]]
name = "{shop}"
networks = [{{ name = "web", ip = ["10.5.0.2"] }}]

[[publish]]
to = "{shop}"
ports = ["8080:80", "9000-9010:9000-9010/udp"]
"#
    )
}

#[test]
fn an_empty_host_becomes_what_a_file_asks_for() {
    let lab = Lab::new();
    let text = shop(&lab);
    let path = file(&lab, "netd.toml", &text);
    let before = Snapshot::of(&lab);
    let shown = lab.netd(&["apply", "--dry-run", &path]).ok().stdout;
    assert_eq!(lab.netd(&["apply", "--dry-run", "--exit-code", &path]).status.code(), Some(3));
    // A dry run changes nothing, and leaves no state.
    Snapshot::of(&lab).assert_same_as(&before);
    assert!(!lab.state_dir().exists());
    let name = lab.name("shop");
    for line in [
        "~ setting quota: value 80% -> 70%",
        "+ network web: subnet 10.5.0.0/24",
        &format!("+ container {name}: network web; ip 10.5.0.2"),
        &format!("+ publish 8080:80/tcp: to {name}"),
    ] {
        assert!(shown.lines().any(|one| one == line), "no '{line}' in:\n{shown}");
    }
    assert_eq!(lab.netd(&["apply", &path]).ok().stdout, shown);
    let _server = Server::tcp_echo(&sandbox(&name), 80);
    assert_eq!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap(), CLIENT);
    assert_eq!(lab.port("udp", 9000)["host_port_end"], 9010);
    assert_eq!(lab.netd(&["--json", "quota"]).ok().json()["percent"], 70);
    // A second time there is nothing to do.
    assert_eq!(lab.netd(&["apply", &path]).ok().stdout, "nothing to change\n");
    assert_eq!(lab.netd(&["apply", "--dry-run", "--exit-code", &path]).ok().stdout, "nothing to change\n");
    let json = lab.netd(&["--json", "apply", &path]).ok().json();
    assert_eq!(json, serde_json::json!({ "changes": [], "dry_run": false }));
    lab.netd(&["check"]).ok();
    lab.netd(&["down"]).ok();
    Snapshot::of(&lab).assert_same_as(&before);
}

#[test]
fn an_edit_changes_only_what_differs_and_open_connections_go_on() {
    let lab = Lab::new();
    let text = shop(&lab);
    apply(&lab, &text);
    let (shop, back) = (lab.name("shop"), lab.name("back"));
    let server = |name: &str| {
        Server::tcp(&sandbox(name), 80, |stream, _from| {
            let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
            while let Some(Ok(line)) = lines.next() {
                if writeln!(&stream, "{line}").is_err() {
                    return;
                }
            }
        })
    };
    let _shop = server(&shop);
    let stream = lab.client.run(|| TcpStream::connect((HOST, 8080)).unwrap());
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut goes_on = || {
        writeln!(&stream, "still here").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "still here");
    };
    goes_on();
    // Everything but port 8080 is edited.
    let edited = text
        .replace("quota = \"70%\"", "quota = \"60%\"")
        .replace("established = \"1d\"", "established = \"2d\"")
        .replace("[\"10.5.0.0/24\"]", "[\"10.5.0.0/24\"]\nmasquerade = false\ntrusted-interfaces = [\"up0\"]")
        .replace("[\"10.5.0.2\"] }", "[\"10.5.0.2\"], allowed-addresses = [\"10.5.0.100\"] }, \"more\"")
        .replace("9000-9010:9000-9010", "9005-9015:9000-9010");
    let edited = format!(
        "{edited}\n[[network]]\nname = \"more\"\n[[container]]\nname = \"{back}\"\nnetworks = [\"more\"]\npublish = [\"8081:80\"]\n"
    );
    let shown = apply(&lab, &edited);
    assert!(!shown.contains("8080"), "{shown}");
    assert_eq!(shown.lines().filter(|line| !line.starts_with(' ')).count(), 9, "{shown}");
    goes_on();
    lab.netd(&["check"]).ok();
    let _back = server(&back);
    assert!(lab.client.run(|| TcpStream::connect((HOST, 8081))).is_ok());
    assert_eq!(lab.port("udp", 9005)["target_port"], 9000);
    assert_eq!(apply(&lab, &edited), "nothing to change\n");
    // A port that gets other terms keeps its open connections, too.
    let denied =
        edited.replace(&format!("to = \"{shop}\""), &format!("to = \"{shop}\"\ndeny = [\"{CLIENT}\"]"));
    assert!(apply(&lab, &denied).contains(&format!("~ publish 8080:80/tcp: deny {CLIENT}/32")));
    goes_on();
    assert!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), SILENCE)).is_err());
    // And back again.
    apply(&lab, &text);
    goes_on();
    lab.netd(&["check"]).ok();
    assert_eq!(apply(&lab, &text), "nothing to change\n");
    assert!(!sandbox(&back).exists());
}

#[test]
fn what_a_file_no_longer_has_is_removed_and_what_commands_have_made_stays() {
    let lab = Lab::new();
    lab.netd(&["network", "create", "own", "--subnet", "10.7.0.0/24"]).ok();
    lab.netd(&["timeouts", "echo=7s"]).ok();
    let own = lab.container("own", &["--network", "own", "-p", "7070:70"]);
    let by_hand = saved(&lab);
    let text = shop(&lab);
    apply(&lab, &text);
    lab.netd(&["publish", "7071:71", &own]).ok();
    lab.netd(&["unpublish", "7071"]).ok();
    // --keep adds.
    let more = format!("[[publish]]\nto = \"{own}\"\nports = [\"7072:72\"]\n");
    let path = file(&lab, "more.toml", &more);
    assert_eq!(
        lab.netd(&["apply", "--keep", &path]).ok().stdout,
        format!("+ publish 7072:72/tcp: to {own}\n")
    );
    lab.port("tcp", 8080);
    // An empty file takes away everything that files have asked for.
    let shown = apply(&lab, "");
    assert_eq!(shown.lines().filter(|line| line.starts_with("- ")).count(), 5, "{shown}");
    assert_eq!(saved(&lab), by_hand);
    // A file that names what commands have made takes it over.
    assert_eq!(netd_with_input(&lab, &["apply", "-"], &by_hand).ok().stdout, "nothing to change\n");
    apply(&lab, "");
    assert_eq!(saved(&lab), "");
    assert!(!sandbox(&own).exists());
}

#[test]
fn a_bad_file_is_refused_whole() {
    let lab = Lab::new();
    let good = shop(&lab);
    let lines = good.lines().count();
    let _busy = lab.host.run(|| tcp_on(2222));
    let shop = lab.name("shop");
    let foreign = lab.name("foreign");
    for (bad, column, said) in [
        ("[[network]]\nnam = \"x\"".to_owned(), "2:1", "there is no key 'nam' here"),
        ("[[network]]\nname = \"x".to_owned(), "2:", "invalid basic string"),
        ("[[network]]\nname = \"x\"\nmtu = \"big\"".to_owned(), "3:7", "expected a whole number"),
        ("[[network]]\nname = \"x\"\nsubnets = [\"10.5.0.0/16\"]".to_owned(), "2:8", "overlaps"),
        ("[[network]]\nname = \"x\"\nbridge = \"up0\"".to_owned(), "2:8", "interface up0 already exists"),
        ("[[network]]\nname = \"web\"".to_owned(), "2:8", "network web is already defined at"),
        (
            format!("[[container]]\nname = \"{foreign}\"\nnetworks = [\"nets\"]"),
            "3:13",
            "there is no network nets",
        ),
        (
            format!("[[container]]\nname = \"{foreign}\"\nnetns = \"/run/netns/no-such\""),
            "3:9",
            "there is no network namespace",
        ),
        (
            format!("[[publish]]\nto = \"{shop}\"\nports = [\"1:1\", \"2222:1\"]"),
            "3:17",
            "port 2222:1/tcp is in use",
        ),
        (format!("[[publish]]\nto = \"{shop}\"\nports = [\"8080:81\"]"), "3:10", "published at"),
        ("[[publish]]\nto = \"nobody\"\nports = [\"1:1\"]".to_owned(), "2:6", "there is no container nobody"),
        (
            "[[publish]]\nto = \"127.0.0.1\"\nports = [\"1:1\"]".to_owned(),
            "2:6",
            "is an address of this host",
        ),
        ("[access]\nallow = [\"x\"]".to_owned(), "2:10", "'x' is not an address"),
    ] {
        let path = file(&lab, "bad.toml", &format!("{good}{bad}\n"));
        let said_by = lab.netd(&["apply", &path]).fails(1, said);
        let (line, column) = column.split_once(':').unwrap();
        let place = format!("{path}:{}:{column}", lines + line.parse::<usize>().unwrap());
        assert!(said_by.stderr.starts_with(&format!("error: {place}")), "{place}: {}", said_by.stderr);
        lab.netd(&["apply", "--dry-run", &path]).fails(1, said);
        assert_eq!(saved(&lab), "", "{bad}");
    }
    lab.netd(&["apply", "/no/such/file"]).fails(1, "cannot read /no/such/file");
    apply(&lab, &good);
}

#[test]
fn a_failure_in_the_middle_leaves_everything_as_it_was() {
    let lab = Lab::new();
    let text = shop(&lab);
    apply(&lab, &text);
    // Its eth0 is noticed only when netd is about to make another one.
    let trap = Netns::new("trap");
    trap.ip("link add eth0 type veth peer name eth9");
    let (before, records) = (there(&lab), saved(&lab));
    let (shop, more) = (lab.name("shop"), lab.name("more"));
    let edited = text
        .replace("quota = \"70%\"", "quota = \"60%\"\nxdp = \"auto\"")
        .replace("[\"10.5.0.0/24\"]", "[\"10.5.0.0/24\"]\nmasquerade = false")
        .replace("8080:80", "8080:81")
        // In the way of the new range.
        .replace("9000-9010:9000-9010", "9005-9015:9005-9015");
    let edited = format!(
        r#"{edited}
[access]
allow = ["{CLIENT}"]

[[network]]
name = "back"
subnets = ["10.6.0.0/24"]

[[container]]
name = "{more}"
networks = ["back", "web"]
publish = ["8090:80"]

[[container]]
name = "{more}2"
netns = "{}"
networks = ["back"]
"#,
        trap.path().display()
    );
    let path = file(&lab, "netd.toml", &edited);
    lab.netd(&["apply", &path]).fails(1, "already has an interface eth0");
    assert_eq!(saved(&lab), records);
    assert_eq!(there(&lab), before);
    lab.netd(&["check"]).ok();
    let _server = Server::tcp_echo(&sandbox(&shop), 80);
    assert_eq!(lab.client.run(|| tcp_first_line(&format!("{HOST}:8080"), PATIENCE)).unwrap(), CLIENT);
    // Without the trap it goes.
    trap.ip("link del eth0");
    lab.netd(&["apply", &path]).ok();
    lab.netd(&["check"]).ok();
}

#[test]
fn after_a_kill_the_next_apply_completes() {
    let lab = Lab::new();
    let text = shop(&lab);
    let path = file(&lab, "netd.toml", &text);
    let empty = file(&lab, "empty.toml", "");
    for micros in (0..60_000).step_by(3_000) {
        lab.netd_killed(&["apply", &path], Duration::from_micros(micros));
        lab.netd(&["sync"]).ok();
        lab.netd(&["check"]).ok();
        lab.netd(&["apply", &path]).ok();
        assert_eq!(lab.netd(&["apply", &path]).ok().stdout, "nothing to change\n");
        lab.netd(&["check"]).ok();
        lab.netd_killed(&["apply", &empty], Duration::from_micros(micros));
        lab.netd(&["sync"]).ok();
        lab.netd(&["apply", &empty]).ok();
        assert_eq!(saved(&lab), "");
    }
}

#[test]
fn what_is_saved_makes_the_same_on_an_empty_host() {
    let lab = Lab::new();
    let foreign = Netns::new("foreign");
    lab.host.ip("link add br7 address 02:00:00:00:00:77 type bridge");
    lab.host.ip("address add 10.77.0.1/24 dev br7");
    lab.host.ip("link set br7 up");
    lab.netd(&["set", "max-connections=20000", "serve=off", "uplinks=up0,up1"]).ok();
    lab.netd(&["timeouts", "echo=7s"]).ok();
    lab.netd(&["access", "--deny", "192.0.2.13"]).ok();
    lab.netd(&["network", "create", "six", "--ipv6", "--no-icc", "--mtu", "1400", "--bridge", "six0"]).ok();
    lab.netd(&["network", "create", "odd", "--subnet", "10.8.0.0/24", "--gateway", "10.8.0.254"]).ok();
    lab.netd(&["network", "create", "theirs", "--adopt", "br7"]).ok();
    lab.netd(&["network", "create", "sealed", "--internal", "--gateway-mode", "isolated"]).ok();
    let web =
        lab.container("web", &["--key", "k \"1\"", "--mac", "02:00:00:00:00:10", "-p", "127.0.0.1:1:1"]);
    lab.netd(&["network", "connect", "six", &web, "--interface", "lan", "--allowed-address", "10.9.0.0/24"])
        .ok();
    lab.container("far", &["--network", "theirs", "--netns", &foreign.path().display().to_string()]);
    lab.container("alone", &["--network", "none"]);
    lab.container("hosted", &["--network", "host"]);
    lab.netd(&["publish", "80:80", "70-79:70-79/udp", &web, "--allow", "10.0.0.0/8", "--interface", "up0"])
        .ok();
    lab.netd(&["publish", "[::1]:81:80", "192.0.2.9:82:80/sctp", &web])
        .fails(1, "is not an address of this host");
    lab.netd(&["publish", "[::1]:81:80", &web]).ok();
    lab.netd(&["publish", "9090:80", "198.19.0.2", "--keep-source"]).ok();
    let text = saved(&lab);
    let path = lab.folder.path().join("saved.toml");
    lab.netd(&["save", path.to_str().unwrap()]).ok();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    assert_eq!(lab.netd(&["apply", "--dry-run", path.to_str().unwrap()]).ok().stdout, "nothing to change\n");
    lab.netd(&["down"]).ok();
    lab.netd(&["apply", path.to_str().unwrap()]).ok();
    assert_eq!(saved(&lab), text);
    lab.netd(&["check"]).ok();
    // What a file cannot ask for is named.
    let run = lab.name("run");
    lab.netd(&["run", "-d", "--name", &run, "--", "sleep", "1000"]).ok();
    let with_run = saved(&lab);
    assert_eq!(
        with_run,
        format!("# not in this file: container {run}, with its ports: it ends with its command\n\n{text}")
    );
    lab.netd(&["container", "rm", &run]).ok();
}

#[test]
fn the_files_of_a_folder_are_one_desired_state() {
    let lab = Lab::new();
    let shop = lab.name("shop");
    file(&lab, "d/10-net.toml", "[settings]\nquota = \"70%\"\n[[network]]\nname = \"web\"\n");
    file(&lab, "d/20-shop.toml", &format!("[[container]]\nname = \"{shop}\"\nnetworks = [\"web\"]\n"));
    file(&lab, "d/.hidden.toml", "nonsense");
    file(&lab, "d/readme.txt", "nonsense");
    let folder = lab.folder.path().join("d").display().to_string();
    let ports = format!("[[publish]]\nto = \"{shop}\"\nports = [\"8080:80\"]\n");
    let shown = netd_with_input(&lab, &["apply", &folder, "-"], &ports).ok().stdout;
    assert_eq!(shown.lines().count(), 4, "{shown}");
    lab.port("tcp", 8080);
    let path = file(&lab, "d/30-more.toml", "[settings]\nquota = \"60%\"\n");
    let said = lab.netd(&["apply", &folder]).fails(1, "quota is 60% here, but 70% at");
    assert!(said.stderr.contains(&format!("{path}:2:9")), "{}", said.stderr);
    netd_with_input(&lab, &["apply", "-"], "nonsense").fails(1, "standard input:1:");
    lab.port("tcp", 8080);
}

#[test]
fn ten_thousand_ports_are_applied_at_once() {
    let lab = Lab::new();
    let shop = lab.name("shop");
    let file_of = |target: u32| {
        let mut text = format!("[[container]]\nname = \"{shop}\"\n");
        // Each in a table of its own, which is the longest way to say it.
        for port in 20_000..30_000 {
            writeln!(text, "[[publish]]\nto = \"{shop}\"\nports = [\"{port}:{target}\"]").unwrap();
        }
        text
    };
    apply(&lab, &file_of(80));
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json().as_array().unwrap().len(), 10_000);
    assert_eq!(apply(&lab, &file_of(80)), "nothing to change\n");
    let _server = Server::tcp_echo(&sandbox(&shop), 80);
    assert_eq!(lab.client.run(|| tcp_first_line(&format!("{HOST}:29999"), PATIENCE)).unwrap(), CLIENT);
    let shown = apply(&lab, "");
    assert_eq!(shown.lines().count(), 10_001);
}
