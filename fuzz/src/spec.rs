//! Arguments of the command line: an accepted value is printed as text with the same meaning, and keeps the invariants
//! of its type.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use netd::internals::{check_subnet, gateway_of, hosts, is_host};
use netd::{
    Access, HostPorts, IfName, Mac, Name, OwnerKey, PortRange, PortSpec, Protocol, Source, UnpublishSpec,
};

/// Parses a word with every parser.
pub fn holds(bytes: &[u8]) {
    let Ok(word) = std::str::from_utf8(bytes) else { return };
    if let Some(PortSpec { host, target, .. }) = shows_itself(word) {
        match host {
            HostPorts::Any => {}
            HostPorts::Range(range) => assert_eq!(range.count(), target.count()),
            HostPorts::FirstFree(range) => assert!(target.count() == 1 && range.count() > 1),
        }
    }
    shows_itself::<UnpublishSpec>(word);
    shows_itself::<Protocol>(word);
    if let Some(range) = shows_itself::<PortRange>(word) {
        assert!(range.first() > 0 && range.first() <= range.last());
        assert_eq!(PortRange::new(range.first(), range.last()), Some(range));
    }
    if let Some(name) = shows_itself::<Name>(word) {
        // The name is used as a file name.
        assert!(name.as_str() == word && !word.contains('/') && !word.starts_with('.'));
    }
    if let Some(name) = shows_itself::<IfName>(word) {
        assert!(name.as_str() == word && (1..16).contains(&word.len()) && !word.contains('\0'));
    }
    if let Some(key) = shows_itself::<OwnerKey>(word) {
        assert!(key.as_str() == word && (1..256).contains(&word.len()));
    }
    if let Some(mac) = shows_itself::<Mac>(word) {
        assert_eq!(Mac::new(mac.bytes()), Some(mac));
    }
    subnet(word);
    sources(word);
}

/// Parses a word, and prints the value if it is accepted.
fn shows_itself<T: FromStr + Display + Debug + PartialEq>(word: &str) -> Option<T> {
    let meant = word.parse::<T>().ok()?;
    let shown = meant.to_string();
    assert_eq!(shown.parse::<T>().ok().as_ref(), Some(&meant), "{word} shows itself as {shown}");
    Some(meant)
}

/// An accepted subnet has addresses for the gateway and for a container.
fn subnet(word: &str) {
    let Ok(subnet) = word.parse::<ipnet::IpNet>() else { return };
    if check_subnet(subnet).is_err() {
        return;
    }
    assert_eq!(subnet, subnet.trunc());
    let gateway = gateway_of(subnet, None).expect("room for a gateway");
    assert!(is_host(subnet, gateway));
    let container = hosts(subnet).find(|address| *address != gateway);
    assert!(container.is_some(), "room for a container");
}

/// Access lists: allowed sources before the first `;`, denied ones after it.
fn sources(word: &str) {
    let (allow, deny) = word.split_once(';').unwrap_or((word, ""));
    let list = |words: &str| -> Option<Vec<Source>> {
        words.split(',').filter(|word| !word.is_empty()).map(|word| word.parse().ok()).collect()
    };
    let (Some(allow), Some(deny)) = (list(allow), list(deny)) else { return };
    for Source(net) in allow.iter().chain(&deny) {
        assert_eq!(*net, net.trunc());
        assert_eq!(net.to_string().parse::<Source>().ok(), Some(Source(*net)));
    }
    let both = allow.iter().any(|source| deny.contains(source));
    match Access::new(allow, deny) {
        Ok(access) => {
            assert!(!both);
            assert_eq!(access.is_empty(), access.others().is_none());
            assert_eq!(access.rules().count(), access.allow.len() + access.deny.len());
        }
        Err(_) => assert!(both),
    }
}
