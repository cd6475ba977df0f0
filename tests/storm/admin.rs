//! The administrator: one netd command at a time, while all others go on.

use std::process::Stdio;
use std::time::Duration;

use netd_tests::lab::Said;
use netd_tests::netns::sandbox;

use crate::actors::Kind;
use crate::ground::{CLIENT, GROUPS, NETWORK, PLACES, SECOND, UNREACHABLE, service};
use crate::judge::Promise;
use crate::label::{Meant, Party};
use crate::plan::{Carrier, Deed, Opening, Target, Who};
use crate::world::{Admin, Container, Pending, World, raw_sender};

impl Admin {
    /// Whether the host's second address is there for all.
    pub(crate) fn has_second(&self) -> bool {
        self.second && !self.pending.as_ref().is_some_and(|pending| matches!(pending.deed, Deed::Address))
    }

    /// Whether the command that runs changes what a flow needs.
    pub(crate) fn concerns(&self, opening: &Opening) -> bool {
        let Some(pending) = &self.pending else { return false };
        let has = |group: u8| matches!(opening.target, Target::Published(which, ..) if which == group);
        match pending.deed {
            Deed::Add(place) | Deed::Remove(place) => {
                opening.asker == Who::Place(place) || opening.target == Target::Neighbour(place)
            }
            Deed::Publish(group, _) | Deed::Replace(group, ..) | Deed::Unpublish(group) => has(group),
            // It may get a source address that has just left the host.
            Deed::Address => matches!(opening.asker, Who::Place(_)),
            _ => false,
        }
    }
}

impl World {
    /// Does one of the administrator's deeds, once the one before is done.
    pub(crate) fn administer(&mut self, kind: Kind, deed: &Deed) {
        self.settle();
        match *deed {
            Deed::Add(place) if self.places[usize::from(place)].is_none() => {
                self.admin.lives[usize::from(place)] += 1;
                let name = self.name(place);
                self.command(kind, deed, &["container", "add", &name, "--network", NETWORK]);
            }
            Deed::Remove(place) => self.remove(kind, deed, place),
            Deed::Publish(group, place) if self.admin.holders[usize::from(group)].is_none() => {
                self.lead(kind, deed, group, place, &["publish"]);
            }
            Deed::Replace(group, place, cut) => {
                let holder = self.admin.holders[usize::from(group)];
                if holder.is_none() || holder == Some(place) {
                    return;
                }
                let words: &[&str] =
                    if cut { &["publish", "--replace", "--cut"] } else { &["publish", "--replace"] };
                if self.lead(kind, deed, group, place, words) && cut {
                    self.excuse(|flow| flow.meant == Meant::Holder(group));
                }
            }
            Deed::Unpublish(group) if self.admin.holders[usize::from(group)].is_some() => {
                self.excuse(|flow| flow.meant == Meant::Holder(group));
                self.admin.holders[usize::from(group)] = None;
                let spec = GROUPS[usize::from(group)].spec();
                self.command(kind, deed, &["unpublish", &spec]);
            }
            Deed::Sync | Deed::Route => {
                if matches!(deed, Deed::Route) {
                    self.admin.route = !self.admin.route;
                    let verb = if self.admin.route { "add" } else { "delete" };
                    let hop = CLIENT.v4();
                    self.lab.host.ip(&format!("route {verb} 203.0.113.0/24 via {hop}"));
                    let [a, b, c] = UNREACHABLE;
                    self.lab.host.ip(&format!("route {verb} unreachable {a}.{b}.{c}.0/24"));
                }
                self.sync(kind, deed);
            }
            Deed::Address => {
                self.admin.second = !self.admin.second;
                let verb = if self.admin.second { "add" } else { "delete" };
                let [v4, v6] = SECOND.all();
                self.excuse(|flow| flow.to.ip() == v4 || flow.to.ip() == v6);
                if !self.admin.second {
                    // It may be the source that netd has given to containers' connections by this uplink.
                    let leaves = |asker| matches!(asker, Party::Container(..));
                    self.excuse(|flow| leaves(flow.asker) && flow.meant != Meant::For(Party::Outside));
                }
                self.lab.host.ip(&format!("address {verb} {v4}/24 dev up0"));
                self.lab.host.ip(&format!("address {verb} {v6}/64 dev up0"));
                self.sync(kind, deed);
            }
            Deed::Rule => {
                self.admin.rule = !self.admin.rule;
                let verb = if self.admin.rule { "add" } else { "delete" };
                self.excuse(|flow| flow.to.port() == service::ROUTED);
                for family in ["-4", "-6"] {
                    for proto in ["tcp", "udp"] {
                        let port = service::ROUTED;
                        self.lab.host.ip(&format!(
                            "{family} rule {verb} pref 500 ipproto {proto} dport {port} lookup 100"
                        ));
                    }
                }
                self.sync(kind, deed);
            }
            _ => {}
        }
    }

    /// Removes a container with all that it has open.
    fn remove(&mut self, kind: Kind, deed: &Deed, place: u8) {
        let Some(container) = &self.places[usize::from(place)] else { return };
        let party = container.party;
        let name = container.name.clone();
        let may_lead: Vec<u32> = self
            .flows
            .iter()
            .filter(|(number, flow)| {
                let is_led =
                    matches!(flow.meant, Meant::Holder(group) if self.judge.may_lead(group, party, **number));
                flow.asker == party || flow.meant == Meant::For(party) || is_led
            })
            .map(|(number, _)| *number)
            .collect();
        self.judge.goes(party);
        self.excuse(|flow| may_lead.contains(&flow.opening.flow));
        for number in
            may_lead.iter().filter(|number| self.flows[*number].asker == party).copied().collect::<Vec<_>>()
        {
            self.end(number, true);
        }
        self.leave(place);
        for holder in self.admin.holders.iter_mut().filter(|holder| **holder == Some(place)) {
            *holder = None;
        }
        self.command(kind, deed, &["container", "rm", &name]);
    }

    /// Publishes a group for the container of a place, if it is there.
    fn lead(&mut self, kind: Kind, deed: &Deed, group: u8, place: u8, verb: &[&str]) -> bool {
        let Some(container) = &self.places[usize::from(place)] else { return false };
        let (party, name) = (container.party, container.name.clone());
        self.judge.holds(group, party);
        let spec = GROUPS[usize::from(group)].spec();
        self.command(kind, deed, &[verb, &[&spec, &name]].concat());
        true
    }

    /// Lets netd look at the host again, by a network that nobody uses.
    fn sync(&mut self, kind: Kind, deed: &Deed) {
        self.admin.spare = !self.admin.spare;
        if self.admin.spare {
            self.command(kind, deed, &["network", "create", "spare", "--subnet", "10.79.0.0/24"]);
        } else {
            self.command(kind, deed, &["network", "rm", "spare"]);
        }
    }

    fn name(&self, place: u8) -> String {
        self.lab.name(&format!("p{place}x{}", self.admin.lives[usize::from(place)]))
    }

    /// Starts a netd command.
    fn command(&mut self, kind: Kind, deed: &Deed, words: &[&str]) {
        let mut command = self.lab.netd_command(words);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("netd starts");
        let words = words.iter().map(|word| (*word).to_owned()).collect();
        self.admin.pending = Some(Pending { child, words, kind, deed: deed.clone() });
    }

    /// Lets the others go on until no command runs.
    pub(crate) fn settle(&mut self) {
        while self.admin.pending.is_some() {
            self.pump(Duration::from_millis(1));
        }
    }

    /// Takes note of a command that has ended.
    pub(crate) fn finish_command(&mut self) {
        let Some(pending) = &mut self.admin.pending else { return };
        if pending.child.try_wait().expect("wait for netd").is_none() {
            return;
        }
        let Pending { child, words, kind, deed } = self.admin.pending.take().expect("it has ended");
        let output = child.wait_with_output().expect("wait for netd");
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = Said::of(&output, &words);
        let is_done = said.status.success();
        // A process of the host may have the port.
        let is_taken =
            matches!(deed, Deed::Publish(..) | Deed::Replace(..)) && said.stderr.contains("in use");
        if !is_done && !is_taken {
            let text = format!("netd {}: {}", words.join(" "), said.stderr.trim());
            self.judge.breach(Promise::Obeyed, Some(kind), 0, &text);
        }
        match deed {
            Deed::Add(place) if is_done => {
                let container = self.look_up(place);
                self.arrive(place, container);
            }
            Deed::Remove(place) => {
                let party = Party::Container(place, self.admin.lives[usize::from(place)]);
                self.forget(party);
                self.judge.is_gone(party);
            }
            Deed::Publish(group, place) | Deed::Replace(group, place, _) => {
                let party = Party::Container(place, self.admin.lives[usize::from(place)]);
                if is_done {
                    self.judge.lets_go(group, Some(party));
                    self.admin.holders[usize::from(group)] = Some(place);
                } else {
                    self.judge.drops(group, party);
                }
            }
            Deed::Unpublish(group) => self.judge.lets_go(group, None),
            _ => {}
        }
    }

    /// The container that has just come.
    fn look_up(&self, place: u8) -> Container {
        let name = self.name(place);
        let inspected = self.lab.netd(&["--json", "container", "inspect", &name]).ok().json();
        let addresses = [0, 1].map(|nth| {
            inspected["addresses"][nth]["ip"].as_str().and_then(|ip| ip.parse().ok()).expect("an address")
        });
        let path = sandbox(&name);
        let party = Party::Container(place, self.admin.lives[usize::from(place)]);
        Container { party, sender: raw_sender(&path), name, path, addresses }
    }

    /// Adds the first containers and publishes all there is.
    pub(crate) fn prepare(&mut self) {
        for place in 0..PLACES - 1 {
            self.administer(Kind::Containers, &Deed::Add(place));
        }
        for group in 0..GROUPS.len() as u8 {
            self.administer(Kind::Publishing, &Deed::Publish(group, group % (PLACES - 1)));
        }
        self.settle();
        for (flow, protocol) in (1..).zip(service::TUNNELS) {
            let opening = Opening {
                flow,
                asker: Who::Host,
                carrier: Carrier::Raw(protocol),
                target: Target::Service(Who::Outside, 0),
                sport: None,
                v6: false,
            };
            self.begin(Kind::HostTunnel, opening);
        }
    }

    /// Takes back what the administrator has made of the host, and then netd.
    pub(crate) fn clear(&mut self) {
        self.settle();
        for (is_there, deed) in [
            (self.admin.second, Deed::Address),
            (self.admin.route, Deed::Route),
            (self.admin.rule, Deed::Rule),
        ] {
            if is_there {
                self.administer(Kind::Sync, &deed);
            }
        }
        self.settle();
        for number in self.flows.keys().copied().collect::<Vec<_>>() {
            self.end(number, true);
        }
        for place in 0..PLACES {
            self.leave(place);
        }
        self.lab.netd(&["down"]).ok();
    }
}
