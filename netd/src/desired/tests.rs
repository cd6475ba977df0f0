//! Files, plans and saved files together. No privilege is needed: plans are carried out on records only.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::saved;
use crate::error::{Error, Kind, Result};
use crate::model::report::{Action, Change};
use crate::model::{Address, Desired, DesiredFile, Lifecycle, Link, LinkLayer, Mac, Protocol, Route, State};
use crate::observe::{Listener, LocalPorts, Observed};
use crate::plan::View;
use crate::plan::desired::{Facts, Objects, Plan, plan};

fn files(texts: &[&str]) -> Vec<DesiredFile> {
    let named = ["a.toml", "b.toml", "c.toml"].iter().zip(texts);
    named.map(|(name, text)| DesiredFile { name: (*name).to_owned(), text: (*text).to_owned() }).collect()
}

fn desired(text: &str) -> Desired {
    Desired::parse(&files(&[text])).unwrap_or_else(|error| panic!("{}\n{text}", error.chain()))
}

/// A host with eth0 (192.0.2.1/24, the default route) on which these records are carried out.
fn host(state: &State) -> Observed {
    let link = |index, name: &str, kind: Option<&str>, mac| Link {
        index,
        name: name.to_owned(),
        kind: kind.map(str::to_owned),
        mac,
        layer: LinkLayer::Ethernet,
        mtu: 1500,
        ..Link::default()
    };
    let route = Route::example;
    let mut host = Observed {
        links: vec![link(2, "eth0", None, Mac::new([2, 0, 0, 0, 0, 2]))],
        addresses: vec![Address { interface: 2, net: "192.0.2.1/24".parse().unwrap(), global: true }],
        routes: vec![route("0.0.0.0/0", 2)],
        local_ports: LocalPorts::parse("32768 60999", ""),
        ..Observed::default()
    };
    for (index, network) in (10..).zip(state.networks.values()) {
        host.links.push(link(index, network.bridge.as_str(), Some("bridge"), Some(network.mac)));
        for subnet in &network.subnets {
            let net = ipnet::IpNet::new(subnet.gateway, subnet.net.prefix_len()).unwrap();
            host.addresses.push(Address { interface: index, net, global: true });
            host.routes.push(route(&subnet.net.to_string(), index));
        }
    }
    for (index, (_, interface)) in (100..).zip(state.interfaces()) {
        host.links.push(link(index, interface.host.as_str(), Some("veth"), Some(interface.host_mac)));
    }
    let busy = Listener { proto: Protocol::Tcp, address: "0.0.0.0:22".parse().unwrap(), inode: 0 };
    host.with_listeners(vec![busy])
}

fn facts() -> Facts {
    let routes = HashMap::from([("203.0.113.7".parse().unwrap(), Some(2))]);
    Facts { instance: "1-a".to_owned(), host: 1, routes, ..Facts::default() }
}

fn planned(state: &State, desired: &Desired) -> Result<Plan> {
    let observed = host(state);
    plan(View { state, observed: &observed }, desired, &facts(), true)
}

/// The records after a plan was carried out and drained publications have ended.
fn carried_out(state: &State, plan: &Plan) -> State {
    let mut next = state.clone();
    next.go_on_from(&plan.numbers);
    let values = &plan.values;
    next.preferences = values.preferences.clone();
    next.quota = values.quota;
    next.timeouts = values.timeouts.clone();
    next.access = values.access.clone();
    next.applied = values.applied.clone();
    next.networks.extend(values.networks.iter().map(|one| (one.name.clone(), one.clone())));
    next.containers.extend(values.containers.iter().map(|one| (one.name.clone(), one.clone())));
    let marked: HashMap<_, _> = values.marked.iter().copied().collect();
    for one in &mut next.publications {
        one.applied = marked.get(&one.handle()).copied().unwrap_or(one.applied);
    }
    without(&mut next, &plan.first);
    let taken = |name: &dyn std::fmt::Display| panic!("{name} is there already");
    for network in &plan.new.networks {
        let others = next.networks.values();
        others.filter(|other| other.number == network.number).for_each(|other| taken(&other.name));
        let ready = crate::model::Network { lifecycle: Lifecycle::Ready, ..network.clone() };
        assert!(next.networks.insert(network.name.clone(), ready).is_none(), "{}", network.name);
    }
    for container in &plan.new.containers {
        let mut ready = container.clone();
        ready.lifecycle = Lifecycle::Ready;
        ready.interfaces.iter_mut().for_each(|one| one.lifecycle = Lifecycle::Ready);
        assert!(next.containers.insert(container.name.clone(), ready).is_none(), "{}", container.name);
    }
    for (name, interface) in &plan.new.interfaces {
        let mut ready = interface.clone();
        ready.lifecycle = Lifecycle::Ready;
        next.containers.get_mut(name).unwrap().interfaces.push(ready);
    }
    let replaced: HashSet<_> = plan.replaced.values().map(crate::model::Publication::handle).collect();
    next.publications.retain(|one| !replaced.contains(&one.handle()));
    for one in &plan.new.publications {
        let mut ready = one.clone();
        ready.lifecycle = Lifecycle::Ready;
        if let Some(other) = next.publications.iter().find(|other| other.overlaps(one)) {
            taken(&other.spec());
        }
        next.publications.push(ready);
    }
    without(&mut next, &plan.last);
    let mut slots = HashSet::new();
    for slot in next.publications.iter().map(|one| one.slot) {
        assert!(slots.insert(slot), "two publications in one slot");
    }
    let mut slots = HashSet::new();
    for (_, interface) in next.interfaces() {
        assert!(slots.insert(interface.slot), "two interfaces in one slot");
        assert!(next.networks.contains_key(&interface.network), "an interface has its network");
    }
    next
}

fn without(state: &mut State, gone: &Objects) {
    let handles: HashSet<_> = gone.publications.iter().map(crate::model::Publication::handle).collect();
    state.publications.retain(|one| {
        !handles.contains(&one.handle())
            && !gone.containers.iter().any(|container| one.target().is(&container.name))
    });
    for (name, interface) in &gone.interfaces {
        let container = state.containers.get_mut(name).unwrap();
        container.interfaces.retain(|one| one.name != interface.name);
    }
    for container in &gone.containers {
        state.containers.remove(&container.name);
    }
    for network in &gone.networks {
        assert!(state.interfaces().all(|(_, one)| one.network != network.name), "{} is in use", network.name);
        state.networks.remove(&network.name);
    }
}

/// The state after this file on an empty host.
fn state(text: &str) -> State {
    let empty = State::default();
    let plan = planned(&empty, &desired(text)).unwrap_or_else(|error| panic!("{}", error.chain()));
    carried_out(&empty, &plan)
}

/// The same, as if commands had made it.
fn by_hand(text: &str) -> State {
    let mut state = state(text);
    state.applied.clear();
    state.networks.values_mut().for_each(|one| one.applied = false);
    state.containers.values_mut().for_each(|one| one.applied = false);
    state.publications.iter_mut().for_each(|one| one.applied = false);
    state
}

fn shown(changes: &[Change]) -> Vec<String> {
    let sign = |change: &Change| match change.action {
        Action::Add => '+',
        Action::Change => '~',
        Action::Remove => '-',
    };
    changes.iter().map(|change| format!("{} {} {}", sign(change), change.object, change.name)).collect()
}

const SHOP: &str = r#"
[settings]
quota = "50%"

[[network]]
name = "web"
subnets = ["10.5.0.0/24"]

[[container]]
name = "shop"
networks = ["web"]

[[publish]]
to = "shop"
ports = ["8080:80", "9000-9010:9000-9010/udp"]
"#;

#[test]
fn the_difference_is_made_and_nothing_else() {
    let before = state(SHOP);
    for (from, to, expected) in [
        ("", "", &[][..]),
        ("8080:80", "8081:80", &["- publish 8080:80/tcp", "+ publish 8081:80/tcp"]),
        ("8080:80", "8080:81", &["~ publish 8080:80/tcp"]),
        (
            "to = \"shop\"",
            "to = \"shop\"\ndeny = [\"10.0.0.1\"]",
            &["~ publish 8080:80/tcp", "~ publish 9000-9010:9000-9010/udp"],
        ),
        (
            "9000-9010:9000-9010",
            "9005-9015:9005-9015",
            &["- publish 9000-9010:9000-9010/udp", "+ publish 9005-9015:9005-9015/udp"],
        ),
        ("quota = \"50%\"", "", &["~ setting quota"]),
        ("[\"10.5.0.0/24\"]", "[\"10.5.0.0/24\"]\nmasquerade = false", &["~ network web"]),
        ("[\"web\"]", "[\"web\", \"bridge\"]", &["+ network bridge", "~ container shop"]),
        (
            "shop",
            "shop2",
            &[
                "- container shop",
                "+ container shop2",
                "~ publish 8080:80/tcp",
                "~ publish 9000-9010:9000-9010/udp",
            ],
        ),
    ] {
        let wanted = desired(&SHOP.replace(from, to));
        let plan = planned(&before, &wanted).unwrap_or_else(|error| panic!("{to}: {}", error.chain()));
        assert_eq!(shown(&plan.changes), expected, "{from} -> {to}");
        let after = carried_out(&before, &plan);
        assert_eq!(shown(&planned(&after, &wanted).unwrap().changes), [""; 0], "{to}");
    }
}

#[test]
fn a_container_that_goes_makes_room_only_if_it_is_in_the_way() {
    let before = state(SHOP);
    let plan = planned(&before, &desired(&SHOP.replace("shop", "shop2"))).unwrap();
    assert!(plan.first.is_empty(), "the new one has another address: {:?}", plan.first);
    assert_eq!(plan.replaced.len(), 2);
    let same = SHOP.replace("[\"web\"]", "[{ name = \"web\", ip = [\"10.5.0.2\"] }]");
    let plan = planned(&before, &desired(&same.replace("shop", "shop2"))).unwrap();
    assert_eq!((plan.first.containers.len(), plan.replaced.len()), (1, 0));
}

#[test]
fn what_commands_have_made_stays_unless_a_file_names_it() {
    let before = by_hand(SHOP);
    let empty = planned(&before, &Desired::default()).unwrap();
    assert_eq!(shown(&empty.changes), [""; 0]);
    // Named once, it belongs to the files.
    let named = planned(&before, &desired(SHOP)).unwrap();
    assert_eq!(shown(&named.changes), [""; 0]);
    let after = carried_out(&before, &named);
    assert_eq!(after, state(SHOP));
    let gone = planned(&after, &Desired::default()).unwrap();
    assert!(carried_out(&after, &gone).is_empty());
    assert_eq!(gone.changes.len(), 5, "{:?}", shown(&gone.changes));
}

#[test]
fn what_cannot_be_is_refused_at_its_place() {
    let before = by_hand(SHOP);
    for (text, kind, expected) in [
        (
            "[[publish]]\nto = \"shop\"\nports = [\"22:22\"]",
            Kind::Conflict,
            "a.toml:3:10: port 22:22/tcp is in use",
        ),
        (
            "[[publish]]\nto = \"shop\"\nports = [\"9001:1/udp\"]",
            Kind::Conflict,
            "a.toml:3:10: port 9001:1/udp is in use: published to shop as 9000-9010:9000-9010/udp",
        ),
        ("[[publish]]\nports = [\"1:1\"]\nto = \"x\"", Kind::NotFound, "a.toml:3:6: there is no container x"),
        (
            "[[publish]]\nports = [\"198.51.100.1:1:1\"]\nto = \"shop\"",
            Kind::Invalid,
            "a.toml:2:10: '198.51.100.1:1:1/tcp': 198.51.100.1 is not an address of this host",
        ),
        (
            "[[container]]\nname = \"x\"\nnetworks = [\"web\", \"nets\"]",
            Kind::NotFound,
            "a.toml:3:20: there is no network nets",
        ),
        (
            "[[container]]\nname = \"x\"\nnetworks = [{ name = \"web\", ip = [\"10.5.0.2\"] }]",
            Kind::Conflict,
            "a.toml:3:13: 10.5.0.2 is the address of container shop",
        ),
        (
            "[[network]]\nname = \"web\"\nsubnets = [\"10.6.0.0/24\"]",
            Kind::Conflict,
            "a.toml:2:8: subnet of network web cannot change from 10.5.0.0/24 to 10.6.0.0/24",
        ),
        (
            "[[network]]\nname = \"x\"\nsubnets = [\"10.5.0.0/16\"]",
            Kind::Conflict,
            "a.toml:2:8: subnet 10.5.0.0/16 overlaps 10.5.0.0/24 (network web)",
        ),
        (
            "[[container]]\nname = \"shop\"\nnetns = \"/run/netns/x\"\nnetworks = [\"web\"]",
            Kind::Conflict,
            "a.toml:2:8: namespace of container shop cannot change from /run/netns/shop to /run/netns/x",
        ),
        ("[settings]\nuplinks = [\"eth7\"]", Kind::NotFound, "a.toml:2:12: there is no interface eth7"),
    ] {
        let error = planned(&before, &desired(text)).map(|plan| plan.changes).expect_err(text);
        assert_eq!(error.kind(), kind, "{text}");
        assert!(error.chain().starts_with(expected), "{text}: {}", error.chain());
    }
}

#[test]
fn a_bad_file_is_refused_at_its_place() {
    for (text, expected, hint) in [
        ("[[netwrok]]", "a.toml:1:3: there is no key 'netwrok' here", "did you mean 'network'?"),
        ("[settings]\nxpd = \"off\"", "a.toml:2:1: there is no key 'xpd' here", "did you mean 'xdp'?"),
        ("x = 1", "a.toml:1:1: there is no key 'x' here", "the keys are settings, timeouts"),
        ("\n\n[[network]]\nsubnets = []", "a.toml:3:1: key 'name' is missing", ""),
        ("[[network]]\nname = \"x\"\nmtu = 67", "a.toml:3:7: the MTU must be between 68 and 65535", ""),
        (
            "[[network]]\nname = \"x\"\nmtu = \"x\"",
            "a.toml:3:7: invalid type: string \"x\", expected a whole",
            "quotes",
        ),
        (
            "[[network]]\nname = \"x\"\nsubnets = \"x\"",
            "a.toml:3:11: invalid type: string \"x\", expected a list",
            "brackets",
        ),
        (
            "[[network]]\nname = \"x\"\nsubnets = [\"10.1.0.1/24\"]",
            "a.toml:3:12: subnet 10.1.0.1/24 has host bits",
            "",
        ),
        (
            "[[network]]\nname = \"x\"\ngateways = [\"x\"]",
            "a.toml:3:13: 'x' is not an IP address",
            "for example",
        ),
        ("[[network]]\nname = \"host\"", "a.toml:2:8: network host already exists", ""),
        (
            "[[network]]\nname = \"x\"\nadopt = \"br0\"\nmtu = 1400",
            "a.toml:3:9: adopt cannot be used together with mtu",
            "",
        ),
        (
            "[settings]\nserve = \"off\"",
            "a.toml:2:9: invalid type: string \"off\", expected true or false",
            "without quotes",
        ),
        (
            "[settings]\nmax-connections = 7",
            "a.toml:2:19: 'max-connections=7': '7' is not a number of connections",
            "use",
        ),
        ("[settings]\nquota = \"0%\"", "a.toml:2:9: '0%' is not a quota", "use 1% to 100%"),
        ("[timeouts]\nud = \"1s\"", "a.toml:2:1: 'ud=1s': there is no state 'ud'", "the states are"),
        (
            "[access]\nallow = [\"::1\"]\ndeny = [\"::1\"]",
            "a.toml:3:9: ::1/128 is both allowed and denied",
            "",
        ),
        ("[[container]]\nname = \"ü\"", "a.toml:2:8: 'ü' is not a valid name", "a name has"),
        (
            "[[container]]\nname = \"x\" # ü\nnetworks = [\"ü\", 7]",
            "a.toml:3:18: invalid type: integer '7', expected the name",
            "",
        ),
        (
            "[[container]]\nname = \"x\"\nnetworks = [{ name = \"a\", ip = [\"b\"] }]",
            "a.toml:3:33: 'b' is not an IP",
            "",
        ),
        (
            "[[container]]\nname = \"x\"\nnetworks = [\"host\", \"a\"]",
            "a.toml:3:13: network host cannot be combined",
            "",
        ),
        (
            "[[container]]\nname = \"x\"\nnetns = \"x\"",
            "a.toml:3:9: 'x' is not an absolute path",
            "for example",
        ),
        (
            "[[publish]]\nto = \"x\"\nports = [\"80\"]",
            "a.toml:3:10: '80' leaves the host port to netd",
            "names the host ports",
        ),
        (
            "[[publish]]\nto = \"x\"\nports = [\"a:80\"]",
            "a.toml:3:10: 'a:80': 'a' is not a port",
            "a port is",
        ),
        (
            "[[publish]]\nto = \"x\"\nports = [\"8080:80\",\n  \"127.0.0.1:8080:80\"]",
            "a.toml:4:3: port 127.0.0.1:8080:80/tcp is in use: published at a.toml:3:10",
            "",
        ),
        ("a = \"", "a.toml:1:", ""),
    ] {
        let error = Desired::parse(&files(&[text])).map(|_desired| ()).expect_err(text);
        assert!(error.chain().starts_with(expected), "{text}: {}", error.chain());
        assert!(matches!(error.kind(), Kind::Invalid | Kind::Conflict), "{text}");
        let Error::InFile { error, .. } = error else { panic!("{text}: no place") };
        let advice = match *error {
            Error::Malformed { expected, .. } => expected.unwrap_or_default(),
            _ => String::new(),
        };
        assert!(advice.contains(hint), "{text}: {advice}");
    }
}

#[test]
fn several_files_add_up() {
    let parse = |texts: &[&str]| Desired::parse(&files(texts));
    let together = parse(&[
        "[settings]\nxdp = \"off\"\nuplinks = [\"eth0\"]\n[access]\nallow = [\"10.0.0.0/8\"]",
        "[settings]\nxdp = \"off\"\nuplinks = [\"eth1\", \"eth0\"]\n[access]\nallow = [\"10.1.0.0/16\"]",
        SHOP,
    ])
    .unwrap();
    assert_eq!(together.access.allow.len(), 2);
    let settings: Vec<String> = together.settings.iter().map(|one| one.value.to_string()).collect();
    assert_eq!(settings, ["xdp=off", "uplinks=eth0,eth1"]);
    assert_eq!((together.networks.len(), together.publications.len()), (1, 1));
    for (one, other, expected) in [
        (
            "[settings]\nxdp = \"off\"",
            "[settings]\nxdp = \"auto\"",
            "b.toml:2:7: xdp is auto here, but off at a.toml:2:7",
        ),
        (
            "[timeouts]\necho = \"1s\"",
            "[timeouts]\necho = \"2s\"",
            "b.toml:2:1: timeout echo is 2s here, but 1s at a.toml:2:1",
        ),
        (
            "[[network]]\nname = \"x\"",
            "[[network]]\nname = \"x\"",
            "b.toml:2:8: network x is already defined at a.toml:2:8",
        ),
        (
            SHOP,
            "[[container]]\nname = \"shop\"",
            "b.toml:2:8: container shop is already defined at a.toml:10:8",
        ),
        (
            SHOP,
            "[[publish]]\nto = \"x\"\nports = [\"9010:1/udp\"]",
            "b.toml:3:10: port 9010:1/udp is in use: published at a.toml:15:21",
        ),
        (
            "[access]\nallow = [\"10.0.0.1\"]",
            "[access]\ndeny = [\"10.0.0.1\"]",
            "b.toml:2:9: 10.0.0.1/32 is both allowed",
        ),
    ] {
        let error = parse(&[one, other]).map(|_desired| ()).expect_err(other);
        assert!(error.chain().starts_with(expected), "{}", error.chain());
    }
}

#[test]
fn a_saved_file_names_what_it_lacks() {
    let mut before = state(SHOP);
    let shop = before.containers.values_mut().next().unwrap();
    shop.run = Some(crate::model::Process { pid: 1, start: 1 });
    let text = saved(&before, &host(&before)).toml().unwrap();
    assert!(
        text.starts_with("# not in this file: container shop, with its ports: it ends with its command\n"),
        "{text}"
    );
    assert!(!text.contains("8080"), "{text}");
    desired(&text);
}

#[test]
fn the_example_of_the_manual_is_a_good_file() {
    let manual = include_str!("../../../docs/usage.md");
    let (_, rest) = manual.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let all = desired(example);
    assert_eq!((all.networks.len(), all.containers.len(), all.publications.len()), (2, 3, 3));
}

/// A file of networks a and b, containers x and y, a host beyond, and ports that lead to them.
fn any_file() -> impl Strategy<Value = String> {
    let network = proptest::option::of((0..2_usize, any::<bool>(), any::<bool>()));
    let container = proptest::option::of((0..4_usize, 0..3_usize, any::<bool>()));
    let port = proptest::option::of((0..3_usize, 0..2_u16, 0..3_usize, any::<bool>()));
    let settings = (proptest::option::of(1..100_u8), any::<bool>(), any::<bool>());
    let all = (
        [network.clone(), network],
        [container.clone(), container],
        proptest::collection::vec(port, 6),
        settings,
    );
    all.prop_map(|(networks, containers, ports, (quota, serve, access))| {
        let mut text = String::new();
        let mut add = |part: &str| text.push_str(part);
        if let Some(quota) = quota {
            add(&format!(
                "[settings]\nquota = \"{quota}%\"\nserve = {serve}\n[timeouts]\necho = \"{quota}s\"\n"
            ));
        }
        if access {
            add("[access]\nallow = [\"10.0.0.0/8\"]\ndeny = [\"10.1.0.0/16\"]\n");
        }
        let mut known = Vec::new();
        for (name, network) in ["a", "b"].iter().zip(networks) {
            let Some((subnet, masquerade, ipv6)) = network else { continue };
            known.push(*name);
            let subnets =
                ["[]".to_owned(), format!("[\"10.{}.0.0/24\"]", name.len() + usize::from(*name == "b"))];
            add(&format!(
                "[[network]]\nname = \"{name}\"\nsubnets = {}\nmasquerade = {masquerade}\nipv6 = {ipv6}\n",
                subnets[subnet]
            ));
        }
        let mut targets = vec!["203.0.113.7"];
        for (name, container) in ["x", "y"].iter().zip(containers) {
            let Some((networks, key, has_mac)) = container else { continue };
            let mut on: Vec<&str> = known.iter().copied().skip(networks).collect();
            if on.is_empty() || networks == 2 {
                on.push("bridge");
            }
            targets.push(*name);
            add(&format!("[[container]]\nname = \"{name}\"\n"));
            if key > 0 {
                add(&format!("key = \"{name}{key}\"\n"));
            }
            let mac = if has_mac { ", mac = \"02:00:00:00:00:07\"" } else { "" };
            let tables: Vec<String> = on.iter().map(|on| format!("{{ name = \"{on}\"{mac} }}")).collect();
            add(&format!("networks = [{}]\n", tables.join(", ")));
        }
        for (number, port) in ports.into_iter().enumerate() {
            let Some((target, port, length, allow)) = port else { continue };
            let target = targets[target % targets.len()];
            let (first, last) = (100 + 10 * number, 100 + 10 * number + length);
            add(&format!(
                "[[publish]]\nto = \"{target}\"\nports = [\"{first}-{last}:{}-{}\"]\n",
                80 + port,
                usize::from(80 + port) + length
            ));
            if allow {
                add("allow = [\"192.0.2.0/24\"]\n");
            }
        }
        text
    })
}

proptest! {
    #[test]
    fn applied_twice_nothing_is_left_to_change(one in any_file(), other in any_file()) {
        let mut before = state(&one);
        for text in [&one, &other, &one] {
            let wanted = desired(text);
            let plan = match planned(&before, &wanted) {
                Ok(plan) => plan,
                Err(error) => {
                    // Some changes would need something to be made anew that is in use.
                    prop_assert_eq!(error.kind(), Kind::Conflict, "{}", error.chain());
                    prop_assert!(error.chain().contains("cannot change"), "{}", error.chain());
                    break;
                }
            };
            before = carried_out(&before, &plan);
            let again = planned(&before, &wanted).unwrap();
            prop_assert_eq!(shown(&again.changes), [""; 0]);
            prop_assert!(again.first.is_empty() && again.new.is_empty() && again.last.is_empty());
        }
        let none = planned(&before, &Desired::default()).unwrap();
        let left = carried_out(&before, &none);
        prop_assert!(left.containers.is_empty() && left.publications.is_empty());
        prop_assert!(left.networks.keys().all(|name| name.as_str() == "bridge"));
    }

    #[test]
    fn a_damaged_file_is_refused_at_a_place_that_it_has(
        from in 0..SHOP.len(),
        length in 0..20_usize,
        noise in "[\\[\\]{}=\"a-z0-9ü\n. :/-]{0,8}",
    ) {
        let mut text = SHOP.to_owned();
        text.replace_range(from..(from + length).min(SHOP.len()), &noise);
        if let Err(error) = Desired::parse(&files(&[&text])) {
            let Error::InFile { at, .. } = &error else { panic!("{}", error.chain()) };
            let line = text.split('\n').nth(at.line - 1).expect("a line of the file");
            prop_assert!((1..=line.chars().count() + 1).contains(&at.column), "{} in {line:?}", error.chain());
        }
    }

    #[test]
    fn a_saved_file_asks_for_what_is_there(text in any_file()) {
        let before = by_hand(&text);
        let saved_text = saved(&before, &host(&before)).toml().unwrap();
        let same = planned(&before, &desired(&saved_text)).unwrap();
        prop_assert_eq!(shown(&same.changes), [""; 0], "{}", saved_text);
        let again = state(&saved_text);
        prop_assert_eq!(saved(&again, &host(&again)).toml().unwrap(), saved_text);
    }
}
