//! Bad input gives a clear error and changes nothing.

use netd_tests::lab::Lab;
use netd_tests::snapshot::Snapshot;
use serde_json::json;

#[test]
fn invalid_arguments_are_usage_errors_that_name_them() {
    let lab = Lab::new();
    let table: &[(&[&str], &str)] = &[
        (&["publish", "8080:", "web"], "8080:"),
        (&["publish", "99999:80", "web"], "99999"),
        (&["publish", "80:80/icmp", "web"], "icmp"),
        (&["publish", "9-8:80", "web"], "9-8"),
        (&["publish", "8000-8001:80-82", "web"], "3"),
        (&["publish", "localhost:80:80", "web"], "localhost"),
        (&["publish", "224.0.0.1:80:80", "web"], "224.0.0.1"),
        (&["publish", "0:0", "web"], "'0' is not a port"),
        (&["publish", "8080:80", "../web"], "../web"),
        (&["publish", "8080:80", "8081:", "web"], "8081:"),
        (&["publish", "8080:80"], "8080:80"),
        (&["publish", "web"], "needs a port"),
        (&["set", "max-connections=7"], "'7' is not a number of connections"),
        (&["set", "xdp=on"], "'on' is not an XDP mode"),
        (&["set", "colour=red"], "there is no setting 'colour'"),
        (&["set", "uplinks"], "'uplinks' has no value"),
        (&["get", "colour"], "there is no setting 'colour'"),
        (&["--uplink", "up0", "ports"], "--uplink"),
        (&["unpublish", "x"], "'x'"),
        (&["container", "add", "-web"], "-w"),
        (&["container", "add", "a/b"], "a/b"),
        (&["container", "add", ".."], "'..' is not a valid name"),
        (&["container", "add", ".hidden"], "'.hidden' is not a valid name"),
        (&["container", "add", ""], "'' is not a valid name"),
        (&["container", "add", "wéb"], "'wéb' is not a valid name"),
        (&["container", "add", "a\nb"], "is not a valid name"),
        (&["container", "add", &"x".repeat(256)], "is not a valid name"),
        (&["run", "--name", "../../etc/passwd", "true"], "'../../etc/passwd' is not a valid name"),
        (&["container", "add", "web", "--ip", "1.2.3"], "1.2.3"),
        (&["container", "add", "web", "--mac", "01:00:00:00:00:00"], "01:00:00:00:00:00"),
        (&["container", "add", "web", "--pid", "0"], "0"),
        (&["network", "create", "a b"], "a b"),
        (&["network", "create", "x", "--mtu", "1"], "1"),
        (&["network", "create", "x", "--bridge", "a-name-that-is-too-long"], "a-name-that-is-too-long"),
        (&["network", "create", "x", "--subnet", "nonsense"], "nonsense"),
        (&["run"], "needs a command"),
        (&["frobnicate"], "frobnicate"),
    ];
    for (words, part) in table {
        let said = lab.netd(words);
        assert_eq!(said.status.code(), Some(2), "{words:?}: {}", said.stderr);
        assert!(
            said.stderr.starts_with("error:") && said.stderr.contains(part),
            "{words:?}: {}",
            said.stderr
        );
        let with_json: Vec<&str> = ["--json"].into_iter().chain(words.iter().copied()).collect();
        let object = lab.netd(&with_json).json();
        assert_eq!(object["error"]["kind"], "usage", "{words:?}");
        assert!(object["error"]["hint"].is_string(), "{words:?}: {object}");
    }
    assert!(!lab.state_dir().exists());
}

#[test]
fn refused_requests_say_why_and_change_nothing() {
    let lab = Lab::new();
    let web = lab.container("web", &["-p", "8080:80"]);
    lab.netd(&["network", "create", "lab", "--subnet", "10.20.0.0/24"]).ok();
    let _listener = lab.host.run(|| std::net::TcpListener::bind(("127.0.0.1", 9000)).unwrap());
    let _datagrams = lab.host.run(|| std::net::UdpSocket::bind(("0.0.0.0", 9001)).unwrap());
    let before = Snapshot::of(&lab);
    let state = || {
        std::fs::read_dir(lab.state_dir())
            .unwrap()
            .flatten()
            .map(|entry| {
                ["state.json", "publications"].map(|name| std::fs::read(entry.path().join(name)).unwrap())
            })
            .collect::<Vec<_>>()
    };
    let state_before = state();
    let other = lab.name("other");
    // Another test's child shares this process's sockets until it runs its program, so it may be named instead.
    let someone = "(pid ";
    let address = lab.address(&web);
    let table: &[(&[&str], &str, &str)] = &[
        (&["publish", "8080:81", &web], "conflict", &web),
        (&["publish", "127.0.0.1:8080:81", &web], "conflict", "8080:80/tcp"),
        (&["publish", "8000-8100:8000-8100", &web], "conflict", "8080:80/tcp"),
        (&["publish", "9000:80", &web], "conflict", someone),
        (&["publish", "9001:80/udp", &web], "conflict", someone),
        (&["publish", "8081:80", "nobody"], "not_found", "there is no container nobody"),
        (&["publish", "203.0.113.9:8081:80", &web], "invalid", "203.0.113.9 is not an address of this host"),
        (&["unpublish", "8081"], "not_found", "8081/tcp is not published"),
        (&["set", "serve=off", "uplinks=nosuch"], "not_found", "there is no interface nosuch"),
        (&["ports", "--container", "nobody"], "not_found", "nobody"),
        (&["container", "add", &web], "conflict", "already exists"),
        (&["container", "add", &other, "--network", "nowhere"], "not_found", "there is no network nowhere"),
        (
            &["container", "add", &other, "--ip", "10.9.9.9"],
            "invalid",
            "10.9.9.9 is not a usable address in 172.17.0.0/16",
        ),
        (&["container", "add", &other, "--ip", "172.17.0.1"], "conflict", "gateway"),
        (&["container", "add", &other, "--ip", &address], "conflict", &web),
        (
            &["container", "add", &other, "--netns", "/run/netns/nothing-here"],
            "not_found",
            "/run/netns/nothing-here",
        ),
        (
            &["container", "add", &other, "--netns", "/etc/passwd"],
            "invalid",
            "/etc/passwd is not a network namespace",
        ),
        (&["container", "add", &other, "--pid", "2147483647"], "not_found", "2147483647"),
        (&["container", "add", &other, "-p", "8085:80", "-p", "8085:81"], "conflict", "8085"),
        (&["container", "add", &other, "-p", "8086:80", "-p", "8080:80"], "conflict", &web),
        (
            &["container", "add", &other, "--network", "none", "-p", "80:80"],
            "invalid",
            "ports cannot be published",
        ),
        (&["container", "rm", "nobody"], "not_found", "nobody"),
        (&["container", "rm", &web, "nobody"], "not_found", "nobody"),
        (&["container", "inspect", "nobody"], "not_found", "nobody"),
        (&["network", "create", "bridge"], "conflict", "bridge"),
        (&["network", "create", "lab"], "conflict", "already exists"),
        (&["network", "create", "x", "--subnet", "198.18.0.0/16"], "conflict", "198.18.0.0/24"),
        (&["network", "create", "x", "--subnet", "10.20.0.128/25"], "conflict", "network lab"),
        (&["network", "create", "x", "--subnet", "10.1.2.3/24"], "invalid", "10.1.2.3/24"),
        (&["network", "create", "x", "--subnet", "127.0.0.0/24"], "invalid", "127.0.0.0/24"),
        (&["network", "create", "x", "--gateway", "10.99.0.1"], "invalid", "10.99.0.1"),
        (&["network", "create", "x", "--bridge", "up0"], "conflict", "up0"),
        (&["network", "rm", "nowhere"], "not_found", "nowhere"),
        (&["network", "rm", "host"], "invalid", "host"),
        (&["network", "rm", "bridge"], "conflict", &web),
        (&["network", "inspect", "nowhere"], "not_found", "nowhere"),
    ];
    for (words, kind, part) in table {
        lab.netd(words).fails(1, part);
        let with_json: Vec<&str> = ["--json"].into_iter().chain(words.iter().copied()).collect();
        let object = lab.netd(&with_json).json();
        assert_eq!(object["error"]["kind"], json!(kind), "{words:?}: {object}");
        assert!(object["error"]["message"].as_str().unwrap().contains(part), "{words:?}: {object}");
    }
    Snapshot::of(&lab).assert_same_as(&before);
    assert!(state() == state_before, "a refused request changed the state");
}

#[test]
fn a_failed_command_is_rolled_back() {
    let lab = Lab::new();
    lab.container("web", &[]);
    let before = Snapshot::of(&lab);
    // The namespace already has an eth0, so the command fails half way.
    let theirs = netd_tests::netns::Netns::new("theirs");
    theirs.ip("link add eth0 type veth peer name other");
    let name = lab.name("app");
    let path = theirs.path();
    lab.netd(&["container", "add", &name, "--netns", &path.to_string_lossy(), "-p", "8080:80"])
        .fails(1, "eth0");
    assert!(theirs.sh("ip -o link").contains("eth0"), "somebody else's interface was removed");
    Snapshot::of(&lab).assert_same_as(&before);
    assert_eq!(lab.netd(&["--json", "ports"]).ok().json(), json!([]));
    // A namespace that already has the name is not removed.
    let taken = lab.name("taken");
    std::process::Command::new("ip").args(["netns", "add", &taken]).status().unwrap();
    lab.netd(&["container", "add", &taken]).fails(1, "already exists");
    assert!(std::path::Path::new("/run/netns").join(&taken).exists());
    std::process::Command::new("ip").args(["netns", "delete", &taken]).status().unwrap();
}

#[test]
fn without_root_the_error_says_so() {
    let lab = Lab::new();
    let line = format!(
        "setpriv --reuid=65534 --regid=65534 --clear-groups {} --state-dir /tmp/nothing-here status",
        netd_tests::netd_binary().display()
    );
    // The user nobody must be able to run the binary, so it is copied.
    let copy = std::env::temp_dir().join(lab.name("netd"));
    std::fs::copy(netd_tests::netd_binary(), &copy).unwrap();
    let line = line.replace(&netd_tests::netd_binary().display().to_string(), &copy.display().to_string());
    let output = lab.host.try_sh(&line);
    // Commands that do not touch the host need no root.
    for words in ["completions bash", "man", "--version"] {
        let words = line.replace("--state-dir /tmp/nothing-here status", words);
        assert!(lab.host.try_sh(&words).status.success(), "{words}");
    }
    std::fs::remove_file(&copy).unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("needs to be root") && stderr.contains("hint:"), "{stderr}");
}
