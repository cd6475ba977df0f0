//! Another set of programs takes over from the one that is loaded, hook by hook, while traffic goes on.
//!
//! ```text
//! stage   the new set is loaded. Maps whose rows have the same form are shared; others are copied.
//! begin   the new set's packets without a flow go to the old set's programs (only if the flow tables are not shared)
//! switch  each hook gets its new program, which is one step for the kernel
//! carry   the flows are copied, those opened meanwhile too
//! finish  both sets change places in one step, and the old one is removed
//! ```
//!
//! Each step may be repeated. If a command is killed, the next one goes on where it ended: the staged set is complete, and the old
//! set's folder has the hooks that are left.

use std::cell::Cell;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use aya::maps::{Array, Map as AyaMap, MapData, ProgramArray};
use aya::programs::SchedClassifier;
use aya::programs::tc::{SchedClassifierLink, TcAttachType};
use netd_common::abi::{MAPS, hook, name, previous, table};
use netd_common::flow::{FlowKey, FlowRow, nat};
use netd_common::wire::bytes::{Address, Ipv4, Ipv6};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::attach::{CLSACT_PRIORITY, HookPoint, create_folder};
use super::bpf::{self, ANY, NOEXIST, RawMap};
use super::layout::{Layout, MapLayout};
use super::object::{self, Setup};
use super::set::Dataplane;
use super::tables::{Tables, now_nanos};
use super::wire::Wire;
use super::{pins, version};
use crate::error::{Doing as _, Result, StateError};

/// The flow tables.
const FLOW_TABLES: [&str; 4] = [name::UNREPLIED, name::UNREPLIED6, name::FLOWS, name::FLOWS6];
/// How long packets without a flow wait at most, nanoseconds, if this process is killed meanwhile. It is long, since a busy host may
/// not run this process for a while, and packets that come too early meet no flow.
const HOLD_NANOS: u64 = 1_000_000_000;
/// How long they wait at least: programs that had begun before have ended by then.
const GRACE: Duration = Duration::from_micros(200);
/// How often new connections are looked for before the last time, and how few of them are few enough.
const ROUNDS: u32 = 16;
const FEW: u32 = 64;

/// A set that takes over, and the one that gives way.
#[derive(Debug)]
pub(crate) struct Replacement {
    instance: PathBuf,
    /// The set that gives way.
    pub(crate) old: Dataplane,
    /// The set that takes over.
    pub(crate) next: Dataplane,
}

impl Replacement {
    /// The one that a killed command has left. Removes what is left of one that was finished.
    pub(crate) fn pending(of: &Dataplane) -> Result<Option<Self>> {
        let instance = of.pins.clone();
        let folder = pins::next(&instance);
        // One that was not complete.
        pins::remove_tree(&pins::staging(&instance))?;
        if !folder.exists() {
            return Ok(None);
        }
        if pins::retired(&folder).exists() {
            pins::remove_tree(&folder)?;
            return Ok(None);
        }
        let Some(version) = version::pinned(&folder)? else {
            pins::remove_tree(&folder)?;
            return Ok(None);
        };
        let next = Dataplane::at(folder, version, &of.host, of.tc);
        Ok(Some(Self { instance, old: of.clone(), next }))
    }

    /// Loads this netd's set beside the one that is loaded. Nothing that packets meet is changed. The BPF file system stays mounted, since
    /// there are pins.
    pub(crate) fn stage(of: &Dataplane, setup: Setup<'_>) -> Result<Self> {
        let instance = of.pins.clone();
        let (before, own) = (of.layout()?, Layout::own());
        if let Some(lost) = own.lacks_rows_of(&before) {
            return Err(
                StateError::CannotCarry { map: lost.to_owned(), version: of.version().to_string() }.into()
            );
        }
        let staging = pins::staging(&instance);
        let shared: Vec<(&str, PathBuf)> = MAPS
            .iter()
            .filter(|map| !map.is_of_one_set() && before.map(map.name) == own.map(map.name))
            .map(|map| (map.name, pins::maps(&instance).join(map.name)))
            .collect();
        let copied = own.maps().filter(|map| !FLOW_TABLES.contains(&map.name.as_str()));
        let mut copied = copied.filter_map(|to| Some((before.map(&to.name).filter(|from| *from != to)?, to)));
        let staged = object::pin_to(&staging, setup, &shared).and_then(|()| {
            copied.try_for_each(|(from, to)| {
                if from.converts_to(to) { copy(&instance, from, &staging, to) } else { Ok(()) }
            })
        });
        if let Err(error) = staged {
            pins::remove_tree(&staging)?;
            return Err(error);
        }
        let folder = pins::next(&instance);
        fs::rename(&staging, &folder)
            .doing(|| format!("rename {} to {}", staging.display(), folder.display()))?;
        let next = Dataplane::at(folder, object::version(), &of.host, of.tc);
        Ok(Self { instance, old: of.clone(), next })
    }

    /// Whether both sets have the same flow tables.
    fn shares_flows(&self) -> Result<bool> {
        let (from, to) = (self.old.layout()?, self.next.layout()?);
        Ok(FLOW_TABLES.iter().all(|name| from.map(name) == to.map(name)))
    }

    /// Lets the new set's packets without a flow go to the old set's programs, which know the flows that are not copied yet.
    pub(crate) fn begin(&self) -> Result<()> {
        if self.shares_flows()? {
            return Ok(());
        }
        self.send_unknown_to(&self.old, [hook::UPLINK_INGRESS, hook::CONTAINER_INGRESS])
    }

    /// Sends the new set's packets without a flow, from outside and from containers, to programs of a set.
    fn send_unknown_to(&self, set: &Dataplane, programs: [&str; 2]) -> Result<()> {
        let what = || format!("write {}", name::PREVIOUS);
        let mut places = self.previous()?;
        for (place, program) in [previous::UPLINK, previous::CONTAINER].into_iter().zip(programs) {
            let program = SchedClassifier::from_pin(set.program(program)).doing(what)?;
            let fd = program.fd().doing(what)?.try_clone().doing(what)?;
            places.set(place, &fd, ANY).doing(what)?;
        }
        Ok(())
    }

    fn previous(&self) -> Result<ProgramArray<MapData>> {
        let pin = self.next.program(name::PREVIOUS);
        let what = || format!("open {}", pin.display());
        ProgramArray::try_from(AyaMap::ProgramArray(MapData::from_pin(&pin).doing(what)?)).doing(what)
    }

    /// The TC hooks that still have the old set's programs.
    pub(crate) fn tc_hooks(&self) -> Result<Vec<(HookPoint, u32, String)>> {
        let mut hooks = Vec::new();
        for point in HookPoint::TC {
            hooks.extend(self.old.attached(point)?.into_iter().map(|(index, name)| (point, index, name)));
        }
        Ok(hooks)
    }

    /// Gives the TC hook of an interface its new program. `filter` is the number of netd's filter on it, if it has one there
    /// instead of a link.
    pub(crate) fn switch_tc(
        &self,
        point: HookPoint,
        ifindex: u32,
        ifname: &str,
        filter: Option<u32>,
    ) -> Result<()> {
        let pin = self.old.hooks().link(point, ifindex, ifname);
        let program = self.next.program(point.program());
        if pin.is_dir() {
            if let Some(filter) = filter {
                self.replace_filter(point, ifname, filter, &program)?;
            }
        } else {
            gone_is_fine(bpf::update(&pin, &program))
                .doing(|| format!("give {ifname} another BPF program {}", point.program()))?;
        }
        self.hand_over(&pin)?;
        let qdisc = self.old.hooks().qdisc(ifindex);
        if qdisc.exists() { self.hand_over(&qdisc) } else { Ok(()) }
    }

    fn replace_filter(&self, point: HookPoint, ifname: &str, filter: u32, program: &Path) -> Result<()> {
        let what = || format!("give {ifname} another BPF program {}", point.program());
        let direction: TcAttachType = point.direction();
        let mut program = SchedClassifier::from_pin(program).doing(what)?;
        self.next.host.run(|| {
            let link = SchedClassifierLink::attached(ifname, direction, CLSACT_PRIORITY, filter.into(), None);
            let id = program.attach_to_link(link.doing(what)?).doing(what)?;
            // Dropping the link would remove the filter.
            std::mem::forget(program.take_link(id).doing(what)?);
            Ok(())
        })?
    }

    /// Gives the socket hooks their new programs.
    pub(crate) fn switch_sockets(&self) -> Result<()> {
        for (name, pin) in self.old.hooks().socket_links() {
            gone_is_fine(bpf::update(&pin, &self.next.program(name)))
                .doing(|| format!("give the cgroup another BPF program {name}"))?;
            self.hand_over(&pin)?;
        }
        Ok(())
    }

    /// Gives the XDP hooks their new program. The old one sends on packets of flows that it finds in its own tables, so they are
    /// the last.
    pub(crate) fn switch_xdp(&self) -> Result<()> {
        for (ifindex, ifname) in self.old.attached(HookPoint::Xdp)? {
            let pin = self.old.hooks().link(HookPoint::Xdp, ifindex, &ifname);
            gone_is_fine(bpf::update(&pin, &self.next.program(hook::UPLINK_XDP)))
                .doing(|| format!("give {ifname} another BPF program {}", hook::UPLINK_XDP))?;
            self.hand_over(&pin)?;
        }
        Ok(())
    }

    /// Moves the pin of a link to the new set.
    fn hand_over(&self, pin: &Path) -> Result<()> {
        let Some(name) = pin.file_name() else { return Ok(()) };
        let to = pins::links(&self.next.pins).join(name);
        fs::rename(pin, &to).doing(|| format!("rename {} to {}", pin.display(), to.display()))
    }

    /// Copies the connections, if the flow tables are not shared. A connection belongs to the new set from the moment that it is
    /// copied: packets find it there first.
    pub(crate) fn carry(&self) -> Result<()> {
        if self.shares_flows()? {
            return Ok(());
        }
        let (from, to) = (self.old.layout()?, self.next.layout()?);
        let mut flows = Flows::open(self, &from, &to)?;
        flows.move_all()?;
        // What the programs look up besides.
        for name in [name::SOCKETS, name::HOST_FLOWS, name::FRAGMENTS, name::FRAGMENTS6] {
            if let (Some(from), Some(to)) = (from.map(name), to.map(name))
                && from != to
            {
                copy_live(&self.old.pins, from, &self.next.pins, to)?;
            }
        }
        for _round in 0..ROUNDS {
            if flows.move_new()? <= FEW {
                break;
            }
        }
        // From now on nothing is opened in the old tables.
        let until = now_nanos()? + HOLD_NANOS;
        self.set_hold(until)?;
        self.send_unknown_to(&self.next, [previous::HOLD; 2])?;
        let begun = Instant::now();
        let last = loop {
            match flows.move_new() {
                Ok(passed) if passed > 0 || begun.elapsed() < GRACE => {}
                last => break last,
            }
        };
        let what = || format!("write {}", name::PREVIOUS);
        let mut places = self.previous()?;
        for place in [previous::UPLINK, previous::CONTAINER] {
            places.clear_index(&place).doing(what)?;
        }
        last?;
        // A CPU may have been taken away from a program in the middle.
        flows.move_new().map(drop)
    }

    fn set_hold(&self, until: u64) -> Result<()> {
        let what = || format!("write {}", name::HOLD_UNTIL);
        let mut row: Array<MapData, Wire<u64>> = self.next.tables.array(name::HOLD_UNTIL)?;
        row.set(0, Wire(until), ANY).doing(what)
    }

    /// Both sets change places, and the old one is removed.
    pub(crate) fn finish(self) -> Result<Dataplane> {
        let Self { instance, old, next } = self;
        let folder = next.pins.clone();
        create_folder(&pins::retired(&instance))?;
        exchange(&folder, &instance)?;
        pins::remove_tree(&folder)?;
        Ok(Dataplane::at(instance, next.version, &old.host, old.tc))
    }
}

/// Exchanges two folders (kernel 5.16), or on older kernels moves the second one away and the first one to its place: if the command is
/// killed in between, [`pins::recover`] puts it there.
fn exchange(folder: &Path, instance: &Path) -> Result<()> {
    let what = || format!("rename {} to {}", folder.display(), instance.display());
    match renameat_with(CWD, folder, CWD, instance, RenameFlags::EXCHANGE) {
        Err(Errno::INVAL) => {
            let aside = pins::staging(instance);
            pins::remove_tree(&aside)?;
            fs::rename(instance, &aside).and_then(|()| fs::rename(folder, instance)).doing(what)?;
            pins::remove_tree(&aside)
        }
        exchanged => exchanged.doing(what),
    }
}

/// Copies the rows of a map that nobody changes to one whose rows have another form.
fn copy(from_set: &Path, from: &MapLayout, to_set: &Path, to: &MapLayout) -> Result<()> {
    let what = || format!("carry over the rows of {}", to.name);
    let carrier = Carrier::open(from_set, from, to_set, to).doing(what)?;
    carrier.source.each_still(|key, row| carrier.put(key, row, ANY)).doing(what)?;
    carrier.warn();
    Ok(())
}

/// The same while programs of the old set change the rows. Those that the new set has already stay.
fn copy_live(from_set: &Path, from: &MapLayout, to_set: &Path, to: &MapLayout) -> Result<()> {
    let what = || format!("carry over the rows of {}", to.name);
    let carrier = Carrier::open(from_set, from, to_set, to).doing(what)?;
    carrier.source.each_keys(|keys| carrier.copy(keys.chunks_exact(carrier.source.key))).doing(what)?;
    carrier.warn();
    Ok(())
}

/// A map of the old set, and the one that takes its rows.
struct Carrier<'a> {
    source: RawMap,
    target: RawMap,
    from: &'a MapLayout,
    to: &'a MapLayout,
    /// The form in which this netd reads rows; either set may be of another version.
    own: MapLayout,
    left_out: Cell<u64>,
}

impl<'a> Carrier<'a> {
    fn open(from_set: &Path, from: &'a MapLayout, to_set: &Path, to: &'a MapLayout) -> io::Result<Self> {
        let source = RawMap::open(&pins::maps(from_set).join(&from.name))?;
        let target = RawMap::open(&pins::maps(to_set).join(&to.name))?;
        let own = Layout::own().map(&to.name).cloned();
        let own = own.ok_or_else(|| io::Error::other("this netd has no such map"))?;
        Ok(Self { source, target, from, to, own, left_out: Cell::new(0) })
    }

    fn put(&self, key: &[u8], row: &[u8], flags: u64) -> io::Result<()> {
        match self.target.put(&self.from.key_to(self.to, key), &self.from.row_to(self.to, row), flags) {
            // A smaller table is full, or a smaller array has no such row.
            Err(error) if matches!(error.raw_os_error(), Some(libc::E2BIG | libc::ENOMEM)) => {
                self.left_out.set(self.left_out.get() + 1);
                Ok(())
            }
            written => written,
        }
    }

    /// Copies rows that the new set does not have. Programs of the old set may change them at the same time.
    fn copy<'k>(&self, mut keys: impl Iterator<Item = &'k [u8]>) -> io::Result<()> {
        keys.try_for_each(|key| match self.source.get(key)? {
            Some(row) => self.put(key, &row, NOEXIST),
            // It has gone.
            None => Ok(()),
        })
    }

    /// Moves the connection of which this is the originator's key. Its rows move one after the other: a program that finds one of
    /// them alone inserts the other one again, and counts a reply's row.
    fn move_connection<A: Address>(&self, original: &[u8]) -> io::Result<()> {
        let Some(row) = self.source.get(original)? else { return Ok(()) };
        let is_there = self.target.get(&self.from.key_to(self.to, original))?.is_some();
        let (key, row) = (self.from.key_to(&self.own, original), self.from.row_to(&self.own, &row));
        let misread = |_misread| io::Error::other("a row has another size than is known");
        let key: FlowKey<A> = bytemuck::try_pod_read_unaligned(&key).map_err(misread)?;
        let row: FlowRow<A> = bytemuck::try_pod_read_unaligned(&row).map_err(misread)?;
        if row.is_reply() || is_there {
            return Ok(());
        }
        let reply = nat::partner_key(&key, &row);
        let reply = self.own.key_to(self.from, bytemuck::bytes_of(&reply));
        let keys = [reply.as_slice(), original];
        self.copy(keys.into_iter())?;
        // From now on packets find the copies. A program of the old set that had begun before may have moved the rows to its other table.
        for key in keys {
            match self.source.get(key)? {
                Some(_still) => self.source.remove(key)?,
                None => self.target.remove(&self.from.key_to(self.to, key))?,
            }
        }
        Ok(())
    }

    fn warn(&self) {
        let (name, count) = (&self.to.name, self.left_out.get());
        if count > 0 {
            tracing::warn!("{name} has room for fewer rows than before: {count} were not carried over");
        }
    }
}

/// The flow tables of both families.
struct Flows<'a> {
    tables: &'a Tables,
    four: Family<'a>,
    six: Family<'a>,
}

/// A family's tables, of unreplied and of established flows, and where the hand of the ring of unreplied ones was: the ring has the keys of
/// connections in the order in which they came.
struct Family<'a> {
    carriers: [Carrier<'a>; 2],
    table: u32,
    hand: u64,
}

impl<'a> Flows<'a> {
    fn open(of: &'a Replacement, from: &'a Layout, to: &'a Layout) -> Result<Self> {
        let (four, six) = ([name::UNREPLIED, name::FLOWS], [name::UNREPLIED6, name::FLOWS6]);
        Ok(Self {
            tables: &of.old.tables,
            four: Family::open(of, from, to, four, table::UNREPLIED)?,
            six: Family::open(of, from, to, six, table::UNREPLIED6)?,
        })
    }

    fn move_all(&self) -> Result<()> {
        self.four.move_all::<Ipv4>()?;
        self.six.move_all::<Ipv6>()
    }

    /// Moves the connections that have come since. Returns how many places the hands have passed.
    fn move_new(&mut self) -> Result<u32> {
        let four = self.four.move_new::<Ipv4>(self.tables, name::UNREPLIED_RING)?;
        Ok(four.saturating_add(self.six.move_new::<Ipv6>(self.tables, name::UNREPLIED_RING6)?))
    }
}

impl<'a> Family<'a> {
    fn open(
        of: &Replacement,
        from: &'a Layout,
        to: &'a Layout,
        names: [&str; 2],
        table: u32,
    ) -> Result<Self> {
        let carrier = |name: &str| {
            let missing = || StateError::Incomplete { what: "map", name: name.to_owned() };
            let (from, to) = (from.map(name).ok_or_else(missing)?, to.map(name).ok_or_else(missing)?);
            Carrier::open(&of.old.pins, from, &of.next.pins, to).doing(|| format!("open {name}"))
        };
        let [unreplied, established] = names;
        let carriers = [carrier(unreplied)?, carrier(established)?];
        Ok(Self { carriers, table, hand: of.old.tables.hand(table)? })
    }

    /// Unreplied ones first: a connection that moves to the other table meanwhile is found there.
    fn move_all<A: Address>(&self) -> Result<()> {
        for carrier in &self.carriers {
            let each = |keys: &[u8]| {
                let mut keys = keys.chunks_exact(carrier.source.key);
                keys.try_for_each(|key| carrier.move_connection::<A>(key))
            };
            carrier.source.each_keys(each).doing(|| format!("carry over the rows of {}", carrier.to.name))?;
            carrier.warn();
        }
        Ok(())
    }

    fn move_new<A: Address>(&mut self, tables: &Tables, ring: &'static str) -> Result<u32> {
        let (keys, hand) = tables.ring_since::<A>(ring, self.table, self.hand)?;
        self.hand = hand;
        for carrier in &self.carriers {
            let mut keys = keys.iter().map(|key| carrier.own.key_to(carrier.from, bytemuck::bytes_of(key)));
            keys.try_for_each(|key| carrier.move_connection::<A>(&key))
                .doing(|| "carry over new connections".into())?;
        }
        Ok(u32::try_from(keys.len()).unwrap_or(u32::MAX))
    }
}

/// The interface or cgroup of a link may have gone; the link stays.
fn gone_is_fine(updated: io::Result<()>) -> io::Result<()> {
    match updated {
        Err(error) if error.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
        updated => updated,
    }
}
