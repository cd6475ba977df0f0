//! Publications that lead to the same port of a target.

use std::collections::HashMap;

use crate::model::{Ports, Protocol, Publication};

/// Those of `all` that lead to target ports of `changed`, and whether another one leads to one of their target's ports too, in
/// IPv4 and in IPv6. What is draining does not count: it begins no connections.
pub(crate) fn sharing<'a>(
    all: impl Iterator<Item = &'a Publication>,
    changed: &[Publication],
) -> Vec<(&'a Publication, [bool; 2])> {
    let mut targets: Vec<u32> = changed.iter().map(|one| one.targets.id).collect();
    targets.sort_unstable();
    let mut concerned: HashMap<_, Ports> = HashMap::new();
    for one in changed {
        concerned.entry((one.proto, one.targets.id)).or_default().insert(one.target_ports());
    }
    // Of many publications few have the target.
    let is_concerned = |one: &&Publication| {
        targets.binary_search(&one.targets.id).is_ok()
            && !one.is_draining()
            && concerned
                .get(&(one.proto, one.targets.id))
                .is_some_and(|ports| ports.holds_any(one.target_ports()))
    };
    let found: Vec<&Publication> = all.filter(is_concerned).collect();
    let shared = [false, true].map(|is_v6| twice(found.iter().copied().filter(|one| is_reached(one, is_v6))));
    let is_shared = |one: &Publication, is_v6: bool| {
        let ports = shared[usize::from(is_v6)].get(&(one.proto, one.targets.id));
        is_reached(one, is_v6) && ports.is_some_and(|ports| ports.holds_any(one.target_ports()))
    };
    found.into_iter().map(|one| (one, [false, true].map(|is_v6| is_shared(one, is_v6)))).collect()
}

/// The target ports to which more than one publication leads, by protocol and target.
fn twice<'a>(publications: impl Iterator<Item = &'a Publication>) -> HashMap<(Protocol, u32), Ports> {
    let mut ports: HashMap<_, [Ports; 2]> = HashMap::new();
    for one in publications {
        let [once, twice] = ports.entry((one.proto, one.targets.id)).or_default();
        for port in one.target_ports().filter(|port| once.holds_any(*port..=*port)) {
            twice.insert(port..=port);
        }
        once.insert(one.target_ports());
    }
    ports.into_iter().map(|(place, [_, twice])| (place, twice)).collect()
}

/// Whether clients from beyond the host reach a publication in a family.
fn is_reached(one: &Publication, is_v6: bool) -> bool {
    one.host_ip.is_none_or(|address| !address.is_loopback() && address.is_ipv6() == is_v6)
}
