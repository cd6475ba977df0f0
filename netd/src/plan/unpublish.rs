//! Which publications a request to unpublish means.

use std::collections::{HashMap, HashSet};

use crate::error::{PublicationError, Result};
use crate::model::{Publication, State, UnpublishSpec};

/// The publications that are named, each once. Fails if one of them is not there.
pub(crate) fn named(state: &State, specs: &[UnpublishSpec]) -> Result<Vec<Publication>> {
    let exact = |proto, first, last| (proto, first, last);
    let mut candidates: HashMap<_, Vec<&Publication>> = specs
        .iter()
        .map(|spec| (exact(spec.proto, spec.host.first(), spec.host.last()), Vec::new()))
        .collect();
    for one in state.publications.iter().filter(|one| !one.is_draining()) {
        if let Some(list) = candidates.get_mut(&exact(one.proto, one.host_port, one.host_port_end)) {
            list.push(one);
        }
    }
    let mut seen = HashSet::new();
    let mut found: Vec<Publication> = Vec::with_capacity(specs.len());
    for spec in specs {
        let key = exact(spec.proto, spec.host.first(), spec.host.last());
        let publication = meant(state, spec, candidates.get(&key).map_or(&[], Vec::as_slice))?;
        if seen.insert(publication.handle()) {
            found.push(publication.clone());
        }
    }
    Ok(found)
}

/// These publications, and those that had their ports before and are draining.
pub(crate) fn with_drained(state: &State, publications: &[Publication]) -> Vec<Publication> {
    let own: HashSet<_> = publications.iter().map(Publication::handle).collect();
    let before = |one: &&Publication| {
        one.is_draining() && !own.contains(&one.handle()) && publications.iter().any(|new| new.overlaps(one))
    };
    publications.iter().chain(state.publications.iter().filter(before)).cloned().collect()
}

/// The one publication that is meant, of those that have the very ports.
fn meant<'a>(
    state: &'a State,
    spec: &UnpublishSpec,
    candidates: &[&'a Publication],
) -> Result<&'a Publication> {
    let means = |publication: &Publication| {
        let host_ip = publication.host_ip;
        let address = match spec.host_ip {
            None => true,
            Some(wanted) => host_ip == Some(wanted) || (wanted.is_unspecified() && host_ip.is_none()),
        };
        address && spec.target.is_none_or(|target| publication.target_port == target.first())
    };
    let whole: Vec<&Publication> = candidates.iter().copied().filter(|one| means(one)).collect();
    match whole.as_slice() {
        [one] => Ok(one),
        // Without an address the publication on all of them is meant, if there is one.
        [_, _, ..] => {
            let everywhere = whole.iter().find(|one| one.host_ip.is_none()).copied();
            let found = || whole.iter().map(|one| one.spec()).collect();
            Ok(everywhere
                .ok_or_else(|| PublicationError::Ambiguous { spec: spec.to_string(), found: found() })?)
        }
        [] => {
            let ports = spec.host.first()..=spec.host.last();
            let mut all = state.publications.iter();
            let part = all
                .find(|one| !one.is_draining() && one.shares(spec.proto, None, ports.clone()) && means(one));
            let (spec, whole) = (spec.to_string(), part.map(Publication::spec));
            Err(match whole {
                Some(whole) => PublicationError::PartOfRange { spec, whole }.into(),
                None => PublicationError::NotFound { spec }.into(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{HostPorts, Lifecycle, PortSpec, Target, TargetSet};

    fn state(published: &[&str]) -> State {
        let mut state = State::default();
        let places = state.places(published.len()).unwrap();
        for (words, place) in published.iter().zip(places) {
            let spec: PortSpec = words.parse().unwrap();
            let HostPorts::Range(host) = spec.host else { panic!("{words} has host ports") };
            state.publications.push(Publication {
                lifecycle: Lifecycle::Ready,
                number: place.number,
                proto: spec.proto,
                host_ip: spec.host_ip,
                policy: None,
                host_port: host.first(),
                host_port_end: host.last(),
                targets: Arc::new(TargetSet { id: 1, members: [Target::Container("web".parse().unwrap())] }),
                target_port: spec.target.first(),
                slot: place.handle.slot(),
                generation: place.handle.generation(),
                applied: false,
            });
        }
        state
    }

    #[test]
    fn a_publication_is_named_by_its_host_ports() {
        let state =
            state(&["8080:80", "127.0.0.1:8080:80/udp", "127.0.0.1:9:9", "127.0.0.2:9:9", "10-12:10-12"]);
        let name = |word: &str| named(&state, &[word.parse().unwrap()]);
        for (word, expected) in [
            ("8080", "8080:80/tcp"),
            ("8080:80", "8080:80/tcp"),
            ("0.0.0.0:8080", "8080:80/tcp"),
            ("8080/udp", "127.0.0.1:8080:80/udp"),
            ("127.0.0.2:9", "127.0.0.2:9:9/tcp"),
            ("10-12", "10-12:10-12/tcp"),
        ] {
            let found = name(word).unwrap_or_else(|error| panic!("{word}: {error}"));
            assert_eq!(found.iter().map(Publication::spec).collect::<Vec<_>>(), [expected], "{word}");
        }
        for (word, text) in [
            ("8081", "is not published"),
            ("8080:81", "is not published"),
            ("127.0.0.1:8080", "is not published"),
            ("9", "on several addresses"),
            ("11", "is part of 10-12:10-12/tcp"),
        ] {
            let error = name(word).expect_err(word);
            assert!(error.to_string().contains(text), "{word}: {error}");
        }
        let twice = ["8080".parse().unwrap(), "8080:80".parse().unwrap()];
        assert_eq!(named(&state, &twice).unwrap().len(), 1);
    }
}
