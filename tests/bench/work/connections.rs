//! New connections to a real web server: from outside with many ports published, from the host itself, and from the
//! container to its own published port.

use netd_tests::netns::{Netns, Process};
use netd_tests::report::{Bar, Better, Comparison, Table};

use super::{Effort, Outcome, fill, number, numbers, values};
use crate::ground::{BULK, Contender, Ground, HTTP, MIDDLE, Published, Terms};
use crate::load::{self, Awake, Server, Way};
use crate::rounds::{Cell, progress};

/// A ground with a web server.
pub(crate) struct Place {
    ground: Ground,
    _server: Server,
}

impl Place {
    fn new(contender: Contender, before: u32) -> Self {
        Self::on(contender, Terms { before, ..Terms::default() })
    }

    pub(crate) fn on(contender: Contender, terms: Terms) -> Self {
        progress(&format!("hosts for {} with {} ports", contender.name(), number(terms.before)));
        let ground = Ground::new(contender, terms);
        for netns in [&ground.client, &ground.host, &ground.container] {
            load::ready_client(netns);
        }
        let server = load::nginx(&ground.container);
        Self { ground, _server: server }
    }

    /// New connections a second to a published port.
    pub(crate) fn rate(&self, published: Published, effort: Effort) -> f64 {
        let url = format!("http://{}/", self.ground.socket(published));
        load::connections(&self.ground.client, &url, effort.programs)
    }
}

pub(crate) fn measure(effort: Effort) -> Outcome {
    let sizes: &[u32] = if effort.large { &[0, 1_000, 6_000, 50_000] } else { &[0, 1_000] };
    let names = numbers(sizes);
    let names = values(&names);
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

/// The paths to a container's port that do not leave the host.
const JOURNEYS: [&str; 3] = ["localhost", "own address", "hairpin"];

/// A contender for local connections, with its path.
struct Local {
    /// Its name in tables.
    row: &'static str,
    /// The path's number in [`JOURNEYS`].
    column: usize,
    place: Place,
    _proxies: Vec<Process>,
    _bulk: Process,
}

impl Local {
    /// Each path has its own hosts. Otherwise connections of two clients with the same addresses would meet in the
    /// server's TIME-WAIT, which refuses SYNs with older timestamps (RFC 7323 §5).
    fn new(row: &'static str, column: usize, contender: Contender) -> Self {
        let place = Place::new(contender, 0);
        // As dockerd starts them by default: on all addresses, and beside the rules of iptables.
        let proxy = |published: Published| {
            let host = &place.ground.host;
            load::docker_proxy(host, "0.0.0.0", published.port, "172.17.0.2", published.target)
        };
        let proxies =
            if contender == Contender::Iptables { vec![proxy(HTTP), proxy(BULK)] } else { Vec::new() };
        let bulk = load::iperf3(&place.ground.container, BULK.target);
        Self { row, column, place, _proxies: proxies, _bulk: bulk }
    }

    fn from(&self) -> &Netns {
        if self.column == 2 { &self.place.ground.container } else { &self.place.ground.host }
    }

    fn address(&self) -> &'static str {
        match (self.place.ground.contender, self.column) {
            (Contender::Routed, _) => "172.17.0.2",
            (_, 0) => "127.0.0.1",
            _ => "198.18.0.1",
        }
    }

    fn port(&self, published: Published) -> u16 {
        self.place.ground.address(published).1
    }

    fn connections(&self, effort: Effort) -> f64 {
        let url = format!("http://{}:{}/", self.address(), self.port(HTTP));
        load::connections(self.from(), &url, effort.programs)
    }

    fn bulk(&self, streams: u32, effort: Effort) -> f64 {
        let to = (self.address(), self.port(BULK));
        load::bulk(&self.place.ground, self.from(), to, Way::In, streams, effort.programs).gbits
    }
}

/// From the host itself and from the container to its own published port.
pub(crate) fn measure_local(effort: Effort) -> Outcome {
    let effort = effort.for_programs();
    progress("hosts for connections from the host itself");
    let places = [
        Local::new("direct", 0, Contender::Routed),
        Local::new("docker-proxy", 0, Contender::Iptables),
        Local::new("netd", 0, Contender::Netd),
        Local::new("direct", 1, Contender::Routed),
        // Docker's rules for the host's own address act before the proxy sees anything.
        Local::new("iptables", 1, Contender::Iptables),
        Local::new("netd", 1, Contender::Netd),
        Local::new("docker-proxy", 2, Contender::Iptables),
        Local::new("netd", 2, Contender::Netd),
    ];
    let table =
        |id: &str, title: &str, unit: &str| Table::new(id, title, unit, Better::More, ("journey", &JOURNEYS));
    let title = "New HTTP connections from the host itself, and from the container to its own port";
    let mut rates = table("local_connections", title, "connections/s");
    let cells = places.iter().map(|place| Cell::new(place.row, place.column, || place.connections(effort)));
    // The bar allows three percent, and single measurements differ by more.
    fill(&mut rates, effort.times(2), cells.collect(), "does not go this way");
    let title = "Bulk TCP from the host itself, and from the container to its own port";
    let awake = Awake::new(&places[0].place.ground.client);
    let mut one = table("local_bulk", &format!("{title}, one stream"), "Gbit/s");
    let mut many = table("local_bulk_8", &format!("{title}, 8 streams"), "Gbit/s");
    for (table, streams) in [(&mut one, 1), (&mut many, 8)] {
        if streams != 1 && !effort.large {
            continue;
        }
        let cells = places
            .iter()
            .filter(|place| effort.large || place.column == 0)
            .map(|place| Cell::new(place.row, place.column, move || place.bulk(streams, effort)));
        fill(table, effort, cells.collect(), "does not go this way");
    }
    drop(awake);
    let bar = |claim: &str, least: f64, table: &Table, other: &str| {
        let claim = format!("localhost: {claim}, netd / {other}");
        Bar::new(&claim, Comparison::AtLeast(least), table.ratio("netd", other, "localhost"))
    };
    let bars = vec![
        bar("new connections", 2.0, &rates, "docker-proxy"),
        bar("Gbit/s, one stream", 2.0, &one, "docker-proxy"),
        bar("Gbit/s, 8 streams", 2.0, &many, "docker-proxy"),
        bar("new connections", 0.97, &rates, "direct"),
        bar("Gbit/s, one stream", 0.97, &one, "direct"),
        bar("Gbit/s, 8 streams", 0.97, &many, "direct"),
    ];
    let tables = [rates, one, many].into_iter().filter(|table| !table.rows.is_empty()).collect();
    Outcome { tables, bars, notes: Vec::new() }
}
