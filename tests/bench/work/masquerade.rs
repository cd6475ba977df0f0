//! Masqueraded connections from the container to outside.

use netd_tests::report::{Better, Table};

use super::{Effort, Outcome, fill, small::carried};
use crate::ground::{CONTAINER, Contender, Ground, HOST, Terms};
use crate::live::{self, Counter, Expected, ONCE, Sink};
use crate::load;
use crate::rounds::Cell;

pub(crate) fn measure(effort: Effort) -> Outcome {
    let contenders = [Contender::Routed, Contender::Iptables, Contender::Nft, Contender::Netd];
    let places: Vec<(Ground, Counter)> = contenders
        .into_iter()
        .map(|contender| {
            let ground = Ground::new(contender, Terms { napi: true, ..Terms::default() });
            // The source address is checked, not the source port.
            let name = if contender.is_direct() { CONTAINER } else { HOST };
            let expected = Expected { src: Some((name, 0)), dst: None };
            let sink = Counter::new(&ground.client, "eth0", Sink::Tc, expected);
            (ground, sink)
        })
        .collect();
    let kinds = ["UDP, each packet a flow"];
    let mut small = Table::new(
        "masquerade_flows",
        "New flows from a container to outside, one core",
        "thousand/s",
        Better::More,
        ("kind", &kinds),
    );
    let cells = places.iter().map(|(ground, sink)| {
        let mut next = 0;
        let who = ground.contender.name();
        Cell::new(who, 0, move || {
            let frames = 50_000;
            let flows = frames + live::AROUND;
            let stream = live::from_container(ground, (CONTAINER, 40_000), flows, next);
            next += flows;
            carried(who, stream.rate(sink, frames, ONCE))
        })
    });
    fill(&mut small, effort, cells.collect(), "not measured");
    let servers: Vec<_> = places.iter().map(|(ground, _)| load::nginx(&ground.client)).collect();
    let mut real = Table::new(
        "masquerade_connections",
        "New HTTP connections from a container to outside",
        "connections/s",
        Better::More,
        ("kind", &["HTTP"]),
    );
    let cells = places.iter().map(|(ground, _)| {
        load::ready_client(&ground.container);
        let who = ground.contender.name();
        Cell::new(who, 0, move || load::connections(&ground.container, "http://198.18.0.2/", effort.programs))
    });
    fill(&mut real, effort, cells.collect(), "not measured");
    drop(servers);
    Outcome { tables: vec![small, real], ..Outcome::default() }
}
