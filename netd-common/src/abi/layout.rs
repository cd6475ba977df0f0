//! Checks that the contract is the one that is recorded for its number. `layout.txt` describes it as text: each row
//! with the offsets and sizes of its fields, each map, program and constant.
//!
//! To change the contract, raise [`ABI`], then record the new one:
//! `NETD_RECORD_ABI=1 cargo test -p netd-common abi::layout`.

extern crate std;

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::string::String;

use super::fields::{TYPES, Type};
use super::*;
use crate::flow::Handle;
use crate::flow::state::State;
use crate::verdict::Reason;
use crate::wire::bytes::{Be16, Ipv4, Ipv6};
use crate::wire::checksum::Delta;

/// Writes the values of constants.
macro_rules! constants {
    ($out:expr; $($module:ident { $($name:ident),* })*) => {$($(
        let _ = writeln!($out, "{}::{} = {}", stringify!($module), stringify!($name), $module::$name);
    )*)*};
}

fn rows(out: &mut String) {
    for &Type { name, size, fields } in TYPES {
        let _ = writeln!(out, "{name}: {size} bytes");
        for Field { name, at, size } in fields {
            let _ = writeln!(out, "  {at:>4} {name:<20} {size}");
        }
    }
    // Words and tuples of words; the order of a subnet's addresses is that of `Subnet::new`.
    let words =
        [size_of::<Be16>(), size_of::<Ipv4>(), size_of::<Ipv6>(), size_of::<Delta>(), size_of::<Handle>()];
    let _ = writeln!(out, "Be16, Ipv4, Ipv6, Delta, Handle: {words:?} bytes");
    let [address, mask, gateway, snat] = [1, 2, 3, 4].map(Ipv4::from_word);
    let subnet = Subnet::new(address, mask, gateway, snat);
    let _ = writeln!(out, "Subnet: {:?}", bytemuck::cast::<_, [u32; 4]>(subnet));
}

fn numbers(out: &mut String) {
    constants! { out;
        cb { REASON, PORTS_NOTED, MTU, OIF, AFTER_QUEUE, LOOKED_AT, ZONE, OPENED, TRIES, AFTER_ROOM }
        access { DENY, ALLOW }
        table { FLOWS, FLOWS6, UNREPLIED, UNREPLIED6 }
        direction { INWARD, OUTWARD, REPLY, NAT64 }
        network_flag {
            NO_ICC, INTERNAL, NO_MASQUERADE, NO_MASQUERADE6, UNPROTECTED, ROUTED, MORE_ADDRESSES, UNMANAGED
        }
        publication_flag { DRAINING, SHARED_TARGET }
        uplink_flag { TAKES_FRAMES, STRICT_REVERSE_PATH }
        local { OWN, BROADCAST }
    }
    let _ = writeln!(out, "pending: a packet of 1 byte is {:#x}", pending::packet(1));
    let _ = writeln!(out, "tick: 2³⁰ ns are {}", tick::of_nanos(1 << 30));
    let _ = writeln!(out, "FRAGMENT_TICKS = {FRAGMENT_TICKS}");
    for (number, state) in State::ALL.iter().enumerate() {
        let _ = writeln!(out, "state {number}: {}", state.name());
    }
    for (number, reason) in Reason::ALL.iter().enumerate() {
        let _ = writeln!(out, "reason {number}: {}", reason.name());
    }
    for (number, program) in stage::PROGRAMS.iter().enumerate() {
        let _ = writeln!(out, "stage {number}: {program}");
    }
    for (number, program) in xdp_stage::PROGRAMS.iter().enumerate() {
        let _ = writeln!(out, "xdp stage {number}: {program}");
    }
    let _ = writeln!(out, "previous: {}, {}, {}", previous::UPLINK, previous::CONTAINER, previous::HOLD);
    for program in hook::ALL {
        let _ = writeln!(out, "hook: {program}");
    }
    for Map { name, kind, key, value, rows, flags, .. } in MAPS {
        let _ = writeln!(out, "map {name}: {kind:?}, key {key}, value {value}, {rows} rows, flags {flags}");
    }
}

#[test]
fn a_changed_contract_has_a_new_number() {
    let mut now = String::new();
    let _ = writeln!(now, "ABI {ABI}");
    rows(&mut now);
    numbers(&mut now);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/abi/layout.txt");
    let recorded = fs::read_to_string(&path).unwrap_or_default();
    if now == recorded {
        return;
    }
    let number = recorded.lines().next().and_then(|line| line.strip_prefix("ABI ")?.parse::<u32>().ok());
    assert!(
        number.is_none_or(|number| number < ABI),
        "the contract differs from what is recorded for ABI {ABI}: raise ABI in netd-common/src/abi/version.rs\n{}",
        difference(&recorded, &now)
    );
    assert!(
        std::env::var_os("NETD_RECORD_ABI").is_some(),
        "ABI {ABI} is not recorded yet: NETD_RECORD_ABI=1 cargo test -p netd-common abi::layout"
    );
    fs::write(&path, now).unwrap();
}

/// The lines that only one of the texts has.
fn difference(recorded: &str, now: &str) -> String {
    let mut lines = String::new();
    for line in recorded.lines().filter(|line| !now.lines().any(|other| other == *line)) {
        let _ = writeln!(lines, "- {line}");
    }
    for line in now.lines().filter(|line| !recorded.lines().any(|other| other == *line)) {
        let _ = writeln!(lines, "+ {line}");
    }
    lines
}
