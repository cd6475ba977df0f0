//! New connections to a real web server: from outside with many ports published, from the host itself, and from the
//! container to its own published port.

use netd_tests::netns::Process;
use netd_tests::report::{Bar, Better, Comparison, Table};

use super::{Effort, Outcome, fill, number};
use crate::ground::{Contender, Ground, HTTP, MIDDLE, Published, Terms};
use crate::load::{self, Server};
use crate::rounds::{Cell, progress};

struct Place {
    ground: Ground,
    _server: Server,
}

impl Place {
    fn new(contender: Contender, before: u32) -> Self {
        progress(&format!("hosts for {} with {} ports", contender.name(), number(before)));
        let ground = Ground::new(contender, Terms { before, ..Terms::default() });
        for netns in [&ground.client, &ground.host, &ground.container] {
            load::ready_client(netns);
        }
        let server = load::nginx(&ground.container);
        Self { ground, _server: server }
    }

    fn rate(&self, published: Published, effort: Effort) -> f64 {
        let url = format!("http://{}/", self.ground.socket(published));
        load::connections(&self.ground.client, &url, effort.programs)
    }
}

pub(crate) fn measure(effort: Effort) -> Outcome {
    let sizes: &[u32] = if effort.large { &[0, 1_000, 6_000, 50_000] } else { &[0, 1_000] };
    let names: Vec<String> = sizes.iter().map(|size| number(*size)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut places = vec![(0, Place::new(Contender::Wire, 0)), (0, Place::new(Contender::Routed, 0))];
    for (column, &before) in sizes.iter().enumerate() {
        for contender in [Contender::Iptables, Contender::Nft, Contender::Netd] {
            places.push((column, Place::new(contender, before)));
        }
    }
    let mut table = Table::new(
        "connections",
        "New HTTP connections to the newest of many ports",
        "connections/s",
        Better::More,
        ("ports published before", &names),
    );
    let mut cells = Vec::new();
    for (column, place) in &places {
        let contender = place.ground.contender;
        cells.push(Cell::new(contender.name(), *column, move || place.rate(HTTP, effort)));
        if contender == Contender::Iptables && *column != 0 {
            cells.push(Cell::new("iptables, middle port", *column, move || place.rate(MIDDLE, effort)));
        }
    }
    fill(&mut table, effort, cells, "no ports, no difference");
    let mut bars = Vec::new();
    for (before, times) in names.iter().zip([1.25, 3.2, 13.0]) {
        let claim = format!("new HTTP connections, {before} ports published before, netd / iptables");
        bars.push(Bar::new(&claim, Comparison::AtLeast(times), table.ratio("netd", "iptables", before)));
    }
    for before in names.iter().skip(1) {
        let claim = format!("new HTTP connections by netd, {before} ports published before / none");
        let (many, none) = (table.cell("netd", before), table.cell("netd", names[0]));
        bars.push(Bar::new(&claim, Comparison::AtLeast(0.95), many.ratio(&none)));
    }
    Outcome { tables: vec![table], bars, notes: Vec::new() }
}

/// From the host itself and from the container to its own published port.
pub(crate) fn measure_local(effort: Effort) -> Outcome {
    progress("hosts for connections from the host itself");
    let direct = Place::new(Contender::Routed, 0);
    let iptables = Place::new(Contender::Iptables, 0);
    let netd = Place::new(Contender::Netd, 0);
    // As dockerd starts it by default: on all addresses, and beside the rules of iptables.
    let proxy = |published: Published| -> Process {
        load::docker_proxy(&iptables.ground.host, "0.0.0.0", published.port, "172.17.0.2", published.target)
    };
    let _proxies = [proxy(HTTP), proxy(crate::ground::BULK)];
    let _bulk: Vec<Server> = [&direct, &iptables, &netd]
        .map(|place| load::iperf3(&place.ground.container, crate::ground::BULK.target))
        .into();
    let journeys = ["localhost", "own address", "hairpin"];
    let ends = [
        ("direct", &direct, ["172.17.0.2"; 3]),
        ("docker-proxy", &iptables, ["127.0.0.1", "198.18.0.1", "198.18.0.1"]),
        ("netd", &netd, ["127.0.0.1", "198.18.0.1", "198.18.0.1"]),
    ];
    let mut rates = Table::new(
        "local_connections",
        "New HTTP connections from the host itself, and from the container to its own port",
        "connections/s",
        Better::More,
        ("journey", &journeys),
    );
    let mut bulk = Table::new(
        "local_bulk",
        "Bulk TCP from the host itself, and from the container to its own port",
        "Gbit/s",
        Better::More,
        ("journey", &journeys),
    );
    let (mut by_rate, mut by_bulk) = (Vec::new(), Vec::new());
    for (name, place, addresses) in &ends {
        for (column, address) in addresses.iter().enumerate() {
            let is_direct = *name == "direct";
            // A container reaches itself by its own address without any network.
            if is_direct && column == 2 {
                continue;
            }
            // Docker's rules for the host's own address act before the proxy sees anything.
            let row = if *name == "docker-proxy" && column == 1 { "iptables" } else { *name };
            let from = if column == 2 { &place.ground.container } else { &place.ground.host };
            let port = move |published: Published| if is_direct { published.target } else { published.port };
            let url = format!("http://{address}:{}/", port(HTTP));
            by_rate.push(Cell::new(row, column, move || load::connections(from, &url, effort.programs)));
            by_bulk.push(Cell::new(row, column, move || {
                let port = port(crate::ground::BULK);
                load::bulk(from, address, port, load::Way::In, 1, effort.programs).gbits
            }));
        }
    }
    fill(&mut rates, effort, by_rate, "does not go this way");
    fill(&mut bulk, effort, by_bulk, "does not go this way");
    let bar = |claim: &str, least: f64, table: &Table, other: &str| {
        let claim = format!("localhost: {claim}, netd / {other}");
        Bar::new(&claim, Comparison::AtLeast(least), table.ratio("netd", other, "localhost"))
    };
    let bars = vec![
        bar("new connections", 2.0, &rates, "docker-proxy"),
        bar("Gbit/s", 2.0, &bulk, "docker-proxy"),
        bar("new connections", 0.97, &rates, "direct"),
        bar("Gbit/s", 0.97, &bulk, "direct"),
    ];
    Outcome { tables: vec![rates, bulk], bars, notes: Vec::new() }
}
