//! The state files: accepted files are written as they were read, and their records are consistent.

use std::path::Path;

use netd::internals::{parse_state, write_state};

/// Both files: the text up to the first zero byte, the rows after it.
pub fn holds(bytes: &[u8]) {
    let parse = |text: &[u8], rows: &[u8]| parse_state(text, rows, Path::new("state.json")).ok();
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let (text, rows) = bytes.split_at(end);
    let Some(state) = parse(text, rows.get(1..).unwrap_or_default()) else { return };
    let (text, rows) = write_state(&state, "boot").expect("written");
    assert_eq!(parse(&text, &rows).as_ref(), Some(&state), "written as it was read");
    for publication in &state.publications {
        assert!(publication.overlaps(publication), "it has a port");
        let ports = publication.host_port_end - publication.host_port;
        assert_eq!(publication.target_port_end() - publication.target_port, ports);
        assert!(publication.host_port != 0 && publication.target_port != 0);
    }
    let mut next = state.clone();
    if let Ok(handle) = next.endpoint_slot() {
        let mut interfaces = state.interfaces();
        assert!(interfaces.all(|(_, interface)| interface.slot != handle.slot()));
        let mut remotes = state.publications.iter().filter_map(|one| one.target().remote());
        assert!(remotes.all(|remote| remote.slot != handle.slot()));
    }
    if let Ok(places) = next.places(2) {
        assert_eq!(places.len(), 2);
        for place in places {
            assert!(state.publications.iter().all(|one| one.slot != place.handle.slot()));
        }
    }
    let number = state.network_number();
    assert!(number != 0 && state.networks.values().all(|network| network.number != number));
}
