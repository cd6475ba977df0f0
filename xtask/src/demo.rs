//! The demo: a web server behind a published port, between hosts that are network namespaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::{build, host, setup};

/// Builds netd, runs the demo and removes everything again. Fails if a step does not show the expected result.
pub(crate) fn demo() -> Result<()> {
    host::check()?;
    setup::everything()?;
    build::build(true)?;
    let stage = Stage::set()?;
    let shown = show(&stage);
    let cleared = stage.clear();
    shown.and(cleared)?;
    heading("All of it held, and nothing is left behind.");
    Ok(())
}

/// Three hosts and a web server's files.
struct Stage {
    /// Namespaces: the client, the host, the outside.
    hosts: [String; 3],
    folder: PathBuf,
    netd: PathBuf,
}

const CLIENT: usize = 0;
const HOST: usize = 1;

impl Stage {
    fn set() -> Result<Self> {
        let id = std::process::id();
        let folder = std::env::temp_dir().join(format!("netd-demo-{id}"));
        fs::create_dir_all(folder.join("www")).context("make a folder for the web server")?;
        let stage = Self {
            hosts: ["client", "host", "outside"].map(|name| format!("netd-demo-{id}-{name}")),
            netd: build::binary(true),
            folder,
        };
        match stage.wire() {
            Ok(()) => Ok(stage),
            Err(error) => {
                let _first_error_counts = stage.clear();
                Err(error)
            }
        }
    }

    /// client -- host -- outside; the host's default route leads to outside.
    fn wire(&self) -> Result<()> {
        let [client, host, outside] = &self.hosts;
        let page = "<h1>Hello from a container behind a published port</h1>\n";
        fs::write(self.folder.join("www/index.html"), page)?;
        let www = self.folder.display();
        fs::write(
            self.folder.join("nginx.conf"),
            format!(
                "daemon off; master_process off; error_log stderr crit; pid {www}/nginx.pid;\nevents {{}}\n\
                 http {{ access_log off; client_body_temp_path {www}/t; proxy_temp_path {www}/t; fastcgi_temp_path {www}/t;\n\
                 uwsgi_temp_path {www}/t; scgi_temp_path {www}/t; server {{ listen 80; root {www}/www; }} }}\n"
            ),
        )?;
        for name in &self.hosts {
            ip(&format!("netns add {name}"))?;
            ip(&format!("-n {name} link set lo up"))?;
        }
        ip(&format!("link add up0 netns {host} type veth peer name eth0 netns {client}"))?;
        ip(&format!("link add up1 netns {host} type veth peer name eth0 netns {outside}"))?;
        for (name, interface, address) in [
            (client, "eth0", "198.18.0.2/24"),
            (host, "up0", "198.18.0.1/24"),
            (host, "up1", "198.19.0.1/24"),
            (outside, "eth0", "198.19.0.2/24"),
        ] {
            ip(&format!("-n {name} address add {address} dev {interface}"))?;
            ip(&format!("-n {name} link set {interface} up"))?;
        }
        ip(&format!("-n {client} route add default via 198.18.0.1"))?;
        ip(&format!("-n {host} route add default via 198.19.0.2"))
    }

    /// A command in one of the hosts. Not with `ip netns exec`, which mounts another /sys without netd's pins.
    fn command(&self, host: usize, words: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.hosts[host]));
        match words {
            ["netd", arguments @ ..] => {
                command.arg(&self.netd).arg("--state-dir").arg(self.state_dir()).args(arguments)
            }
            words => command.args(words),
        };
        command
    }

    fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Runs a command and shows it as a user would type it, with its output.
    fn show(&self, host: usize, words: &[&str]) -> Result<(bool, String)> {
        let who = ["client", "host", "outside"][host];
        println!("{} {}", paint("36", &format!("{who}#")), words.join(" "));
        let output =
            self.command(host, words).output().with_context(|| format!("run {}", words.join(" ")))?;
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        for line in text.lines() {
            println!("    {line}");
        }
        if text.is_empty() {
            println!(
                "    {}",
                paint("2", &format!("(nothing; exit status {})", output.status.code().unwrap_or(-1)))
            );
        }
        Ok((output.status.success(), text))
    }

    /// Removes everything. Goes on after a failure.
    fn clear(&self) -> Result<()> {
        // Already down if the demo succeeded.
        let _again = self.command(HOST, &["netd", "--quiet", "down"]).output();
        let mut failed = Vec::new();
        for name in &self.hosts {
            if Path::new("/run/netns").join(name).exists() {
                failed.extend(ip(&format!("netns delete {name}")).err());
            }
        }
        failed.extend(fs::remove_dir_all(&self.folder).context("remove the demo's folder").err());
        match failed.into_iter().next() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }
}

fn ip(words: &str) -> Result<()> {
    let output = Command::new("ip").args(words.split(' ')).output().context("run ip")?;
    if !output.status.success() {
        bail!("ip {words}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

/// The steps of the demo.
fn show(stage: &Stage) -> Result<()> {
    heading("A web server in a container of its own, its port 80 published as the host's 8080");
    println!("{} netd run --name web -p 8080:80 -- nginx -c nginx.conf", paint("36", "host#"));
    let config = stage.folder.join("nginx.conf");
    let config = config.to_string_lossy().into_owned();
    let words = ["netd", "run", "--name", "web", "-p", "8080:80", "--", "nginx", "-c", &config];
    let mut run = stage
        .command(HOST, &words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("start netd run")?;
    let acts = perform(stage, &mut run);
    if acts.is_err() {
        // The hosts are removed next, and the container with them.
        let _ended = run.kill();
        let _reaped = run.wait();
    }
    acts
}

fn perform(stage: &Stage, run: &mut Child) -> Result<()> {
    wait_for("the web server to answer", || {
        Ok(stage
            .command(HOST, &["curl", "-s", "-m", "1", "http://127.0.0.1:8080/"])
            .output()?
            .status
            .success())
    })?;

    heading("The page, from another machine and from the host itself");
    expect(stage.show(CLIENT, &["curl", "-s", "-m", "3", "http://198.18.0.1:8080/"])?, "Hello")?;
    expect(stage.show(HOST, &["curl", "-s", "-m", "3", "http://localhost:8080/"])?, "Hello")?;
    expect(stage.show(HOST, &["curl", "-s", "-m", "3", "http://198.18.0.1:8080/"])?, "Hello")?;

    heading("The container as the host sees it: sandbox, gateway, MAC address, veth");
    let (_, inspected) = stage.show(HOST, &["netd", "container", "inspect", "web"])?;
    let address = value(&inspected, "address:").context("inspect shows no address")?;
    let address = address.split('/').next().unwrap_or_default().to_owned();
    let veth = value(&inspected, "host interface:").context("inspect shows no host interface")?;

    heading("Nothing from outside reaches the container but by its published port");
    let (reached, _) = stage.show(CLIENT, &["curl", "-sS", "-m", "1", &format!("http://{address}/")])?;
    if reached {
        bail!("the container's own address was reachable from the client");
    }

    heading("What passed");
    let (_, ports) = stage.show(HOST, &["netd", "ports"])?;
    if !ports.lines().any(|line| line.contains(":8080") && !line.contains("0 pkt")) {
        bail!("the counters did not move");
    }

    heading("No netfilter rule was made");
    let (_, rules) = stage.show(HOST, &["nft", "list", "ruleset"])?;
    let (_, chains) = stage.show(HOST, &["iptables", "-S"])?;
    if !rules.is_empty() || chains.lines().any(|line| line.starts_with("-A")) {
        bail!("there are netfilter rules");
    }

    heading("The server ends, and with it everything that was made for it");
    println!("{} kill -TERM $(pidof netd)", paint("36", "host#"));
    let pid = i32::try_from(run.id()).context("netd's process number")?;
    let mut kill = Command::new("kill");
    crate::shell::run(kill.args(["-TERM", &pid.to_string()]))?;
    run.wait().context("wait for netd run")?;
    let (_, left) = stage.show(HOST, &["netd", "container", "ls"])?;
    expect(stage.show(HOST, &["netd", "down"])?, "")?;
    stage.show(HOST, &["ip", "-brief", "link"])?;
    let gone = [
        ("the container", !left.contains("web")),
        ("its veth", !exists(stage, &["ip", "link", "show", &veth])?),
        ("its namespace", !Path::new("/run/netns/web").exists()),
        ("the bridge", !exists(stage, &["ip", "link", "show", "netd0"])?),
        ("the pins", !pins_of(stage)),
        ("the filters", !filters(stage)?),
        ("the state", !stage.state_dir().exists()),
    ];
    for (what, is_gone) in gone {
        println!("    {} {what}", if is_gone { paint("32", "gone:") } else { paint("31", "LEFT:") });
    }
    if let Some((what, _)) = gone.iter().find(|(_, is_gone)| !is_gone) {
        bail!("{what} was left behind");
    }
    Ok(())
}

/// Whether a command that searches for something finds it.
fn exists(stage: &Stage, words: &[&str]) -> Result<bool> {
    Ok(stage.command(HOST, words).output()?.status.success())
}

/// Whether the kernel still has a BPF program on an uplink, by tcx or as a filter.
fn filters(stage: &Stage) -> Result<bool> {
    for uplink in ["up0", "up1"] {
        let link = stage.command(HOST, &["ip", "-details", "link", "show", uplink]).output()?;
        let filters = stage.command(HOST, &["tc", "filter", "show", "dev", uplink, "ingress"]).output()?;
        if !filters.stdout.is_empty() || String::from_utf8_lossy(&link.stdout).contains("prog/") {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether pins of the demo's instance are left. The instance's name ends with the key of its state folder.
fn pins_of(stage: &Stage) -> bool {
    let output = stage.command(HOST, &["netd", "--json", "status"]).output();
    let status: Option<serde_json::Value> =
        output.ok().and_then(|output| serde_json::from_slice(&output.stdout).ok());
    status.is_none_or(|status| {
        let instance = status["instance"].as_str().unwrap_or_default().to_owned();
        instance.is_empty() || Path::new("/sys/fs/bpf/netd").join(instance).exists()
    })
}

/// The rest of the line that starts with this text.
fn value(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
}

fn expect((succeeded, text): (bool, String), part: &str) -> Result<()> {
    if !succeeded || !text.contains(part) {
        bail!("expected '{part}', and success");
    }
    Ok(())
}

/// Waits until a condition holds, for at most five seconds.
fn wait_for(what: &str, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds()? {
        if Instant::now() > deadline {
            bail!("waited in vain for {what}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn heading(text: &str) {
    println!("\n{}", paint("1", text));
}

/// Uses colours on a terminal only.
fn paint(code: &str, text: &str) -> String {
    use std::io::IsTerminal as _;
    if std::io::stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
