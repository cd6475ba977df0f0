//! What netd promises, and what is said if it does not hold.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::fmt::{self, Display, Formatter, Write as _};
use std::net::IpAddr;

use crate::actors::Kind;
use crate::ground::GROUPS;
use crate::label::{Label, Meant, Party};
use crate::plan::{Deed, Step, Target, Who};

/// How many steps are remembered.
const MEMORY: usize = 50_000;
/// How many of them are told.
const TOLD: usize = 60;

/// A promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Promise {
    /// A payload is delivered only to whom it is for.
    Delivery,
    /// No container's address is seen outside.
    Hidden,
    /// Established connections live until somebody ends them.
    Established,
    /// Whoever may connect can.
    Connects,
    /// What is sent by the honest arrives.
    Arrives,
    /// A published port is nobody else's.
    Reserved,
    /// What does not arrive is counted.
    Counted,
    /// What the administrator asks for happens.
    Obeyed,
    /// `netd down` leaves the host as it was.
    Restored,
}

/// That it was broken.
#[derive(Clone, Debug)]
pub(crate) struct Breach {
    promise: Promise,
    /// The actor that saw it; none: nobody of ours.
    kind: Option<Kind>,
    step: u64,
    text: String,
}

impl Breach {
    /// Whether the same actor saw the same promise broken.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        (self.promise, self.kind) == (other.promise, other.kind)
    }
}

impl Display for Breach {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "step {}: {:?}", self.step, self.promise)?;
        if let Some(kind) = self.kind {
            write!(f, ", {kind:?}")?;
        }
        write!(f, ": {}", self.text)
    }
}

/// Who has held a group since when, and until when. Steps.
#[derive(Clone, Copy, Debug)]
struct Holding {
    party: Party,
    since: u64,
    until: Option<u64>,
}

/// Keeps the record and judges by it.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    /// The step that is being done.
    pub(crate) step: u64,
    history: VecDeque<(u64, Step)>,
    holdings: [Vec<Holding>; GROUPS.len()],
    /// Containers that are gone.
    gone: HashSet<Party>,
    /// The addresses that each container has or had.
    addresses: HashMap<Party, [IpAddr; 2]>,
    /// When each flow began, and whose it is.
    began: HashMap<u32, (u64, Kind)>,
    /// When the asker of each flow closed its socket.
    ended: HashMap<u32, u64>,
    /// What was broken, the first of each promise and actor.
    broken: BTreeMap<(Promise, Option<Kind>), (u64, Breach)>,
    /// How many labelled datagrams were sent, and arrived anywhere.
    pub(crate) sent: u64,
    pub(crate) arrived: u64,
}

impl Judge {
    /// Notes a step.
    pub(crate) fn note(&mut self, number: u64, step: &Step) {
        self.step = number;
        if self.history.len() == MEMORY {
            self.history.pop_front();
        }
        self.history.push_back((number, step.clone()));
    }

    /// Notes that a flow begins now.
    pub(crate) fn begins(&mut self, flow: u32, kind: Kind) {
        self.began.insert(flow, (self.step, kind));
    }

    /// Notes that the asker of a flow closes its socket now.
    pub(crate) fn ends(&mut self, flow: u32) {
        self.ended.insert(flow, self.step);
    }

    /// Notes that a group may lead to a container from now on.
    pub(crate) fn holds(&mut self, group: u8, party: Party) {
        self.holdings[usize::from(group)].push(Holding { party, since: self.step, until: None });
    }

    /// Notes that a group leads to nobody but `except` from now on.
    pub(crate) fn lets_go(&mut self, group: u8, except: Option<Party>) {
        for holding in &mut self.holdings[usize::from(group)] {
            if Some(holding.party) != except {
                holding.until.get_or_insert(self.step);
            }
        }
    }

    /// Notes that a group was not given to a container after all.
    pub(crate) fn drops(&mut self, group: u8, party: Party) {
        self.holdings[usize::from(group)].retain(|held| held.party != party || held.until.is_some());
    }

    /// Notes that a container has come, and its addresses.
    pub(crate) fn comes(&mut self, party: Party, addresses: [IpAddr; 2]) {
        self.addresses.insert(party, addresses);
    }

    /// Notes that a container goes away.
    pub(crate) fn goes(&mut self, party: Party) {
        self.gone.insert(party);
    }

    /// Notes that a container is away.
    pub(crate) fn is_gone(&mut self, party: Party) {
        for held in self.holdings.iter_mut().flatten().filter(|held| held.party == party) {
            held.until.get_or_insert(self.step);
        }
    }

    /// Whether a flow may be led to a container by a group.
    pub(crate) fn may_lead(&self, group: u8, party: Party, flow: u32) -> bool {
        let began = self.began.get(&flow).map_or(self.step, |(began, _)| *began);
        self.holdings[usize::from(group)]
            .iter()
            .any(|held| held.party == party && held.until.is_none_or(|until| until >= began))
    }

    /// Whether what comes late for a closed socket of the host may be taken for a container's: its port was published after that.
    fn is_published_since(&self, flow: u32, party: Party) -> bool {
        let held = |ended| self.holdings.iter().flatten().any(|it| it.party == party && it.since > ended);
        self.ended.get(&flow).is_some_and(|ended| held(*ended))
    }

    /// Whether a container has got an address of one that is gone. Its neighbours on the bridge cannot tell the two apart.
    fn inherits(&self, party: Party, from: Party) -> bool {
        let (Some(has), Some(had)) = (self.addresses.get(&party), self.addresses.get(&from)) else {
            return false;
        };
        self.gone.contains(&from) && has.iter().any(|address| had.contains(address))
    }

    /// Whose flow it is.
    pub(crate) fn kind(&self, flow: u32) -> Option<Kind> {
        self.began.get(&flow).map(|(_, kind)| *kind)
    }

    /// Judges the receipt of a payload.
    pub(crate) fn receives(&mut self, receiver: Party, label: Label, way: &str) {
        let kind = self.kind(label.flow);
        let may = match label.meant {
            Meant::For(party) if party == receiver => true,
            Meant::For(Party::Host) => self.is_published_since(label.flow, receiver),
            // What comes for a container that is gone is the host's, as with conntrack.
            Meant::For(party) if receiver == Party::Host => self.gone.contains(&party),
            Meant::For(party) => matches!(label.from, Party::Container(..)) && self.inherits(receiver, party),
            Meant::Holder(group) => self.may_lead(group, receiver, label.flow),
            Meant::Anybody => true,
            Meant::Nobody => false,
        };
        if !may {
            self.breach(Promise::Delivery, kind, label.flow, &format!("{receiver} got '{label}' {way}"));
        }
    }

    /// Notes a broken promise. Of each promise and actor the first is told.
    pub(crate) fn breach(&mut self, promise: Promise, kind: Option<Kind>, flow: u32, text: &str) {
        let known = self.broken.get_mut(&(promise, kind));
        if let Some((count, _)) = known {
            *count += 1;
            return;
        }
        let text = format!("{text}\n{}", self.told(flow, text));
        let breach = Breach { promise, kind, step: self.step, text };
        self.broken.insert((promise, kind), (1, breach));
    }

    /// Whether something was broken.
    pub(crate) fn is_broken(&self) -> bool {
        !self.broken.is_empty()
    }

    /// What was broken, and how often.
    pub(crate) fn broken(&self) -> impl Iterator<Item = &(u64, Breach)> {
        self.broken.values()
    }

    /// The history of a flow: its own steps, and what the administrator and the hostile did to who takes part in it.
    fn told(&self, flow: u32, text: &str) -> String {
        let opening = self.history.iter().find_map(|(_, step)| match &step.deed {
            Deed::Begin(opening) if opening.flow == flow => Some(*opening),
            _ => None,
        });
        let mut places: BTreeSet<u8> = (0..9).filter(|place| text.contains(&format!("c{place}."))).collect();
        let mut group =
            (0..).zip(&GROUPS).map(|(group, _)| group).find(|it| text.contains(&format!("group{it} ")));
        if let Some(opening) = opening {
            if let Who::Place(place) = opening.asker {
                places.insert(place);
            }
            match opening.target {
                Target::Published(which, ..) => group = Some(which),
                Target::Neighbour(place) => drop(places.insert(place)),
                Target::Service(..) => {}
            }
        }
        let began = self.began.get(&flow).map_or(0, |(began, _)| *began);
        let concerns = |number: u64, step: &Step| match &step.deed {
            Deed::Begin(opening) => opening.flow == flow,
            Deed::Say(of) | Deed::End(of, _) => *of == flow,
            Deed::Burst(_) if number < began => false,
            Deed::Burst(burst) => matches!(burst.from, Who::Place(place) if places.contains(&place)),
            Deed::Publish(of, place) | Deed::Replace(of, place, _) => {
                Some(*of) == group || places.contains(place)
            }
            Deed::Bind(of, _) | Deed::Unpublish(of) => Some(*of) == group,
            Deed::Add(place) | Deed::Remove(place) => places.contains(place),
            Deed::Sync => false,
            Deed::Address | Deed::Route | Deed::Rule => true,
        };
        let all: Vec<_> = self.history.iter().filter(|(number, step)| concerns(*number, step)).collect();
        let mut said = String::new();
        for (number, step) in &all[all.len().saturating_sub(TOLD)..] {
            writeln!(said, "    {number}: {:?}: {:?}", step.kind, step.deed).expect("a string takes all");
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    #[test]
    fn who_has_got_the_address_of_one_that_is_gone_gets_what_neighbours_still_send_there() {
        let at = |last| [Ipv4Addr::new(10, 77, 0, last).into(), Ipv6Addr::from(u128::from(last)).into()];
        let (old, new, other) = (Party::Container(5, 1), Party::Container(3, 2), Party::Container(4, 1));
        let label = |from| Label { from, meant: Meant::For(old), flow: 1, seq: 1, asks: true };
        let breaches = |receiver, from, is_gone| {
            let mut judge = Judge::default();
            for (party, last) in [(old, 2), (new, 2), (other, 3)] {
                judge.comes(party, at(last));
            }
            if is_gone {
                judge.goes(old);
            }
            judge.receives(receiver, label(from), "by UDP");
            judge.is_broken()
        };
        assert!(!breaches(new, other, true));
        assert!(breaches(other, other, true), "it has another address");
        assert!(breaches(new, other, false), "the first is still there");
        assert!(breaches(new, Party::Outside, true), "only neighbours send by the bridge alone");
    }
}
