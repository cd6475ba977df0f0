//! The state file: what is understood is written as it was read, and holds nothing that the commands could trip over.

use std::path::Path;

use netd::store::State;

/// The file's bytes.
pub fn holds(bytes: &[u8]) {
    let parse = |bytes: &[u8]| State::parse(bytes, Path::new("state.json")).ok();
    let Some(state) = parse(bytes) else { return };
    let written = serde_json::to_vec(&state).expect("written");
    assert_eq!(parse(&written).as_ref(), Some(&state), "written as it was read");
    for publication in &state.publications {
        assert!(publication.overlaps(publication), "it has a port");
        let ports = publication.host_port_end - publication.host_port;
        assert_eq!(publication.target_port_end() - publication.target_port, ports);
        assert!(publication.host_port != 0 && publication.target_port != 0);
    }
    let mut next = state.clone();
    if let Ok(handle) = next.endpoint_slot() {
        let taken = state.containers.values().filter_map(|container| container.link());
        assert!(taken.into_iter().all(|link| link.slot != handle.slot()));
    }
    if let Ok(handles) = next.publication_slots(2) {
        assert_eq!(handles.len(), 2);
        for handle in handles {
            assert!(state.publications.iter().all(|publication| publication.slot != handle.slot()));
        }
    }
    let number = state.network_number();
    assert!(number != 0 && state.networks.values().all(|network| network.number != number));
}
