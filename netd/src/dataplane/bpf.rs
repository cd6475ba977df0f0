//! Commands of bpf(2) that aya lacks: detaching a link at once, giving it another program, asking whether it is attached, freezing a
//! map, reading or writing many rows of a map in one call, and rows whose types this netd does not know.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use aya::Pod;
use aya::maps::{MapData, MapInfo};

/// `BPF_ANY` of `bpf_map_update_elem`: whether or not the row exists.
pub(super) const ANY: u64 = 0;

/// `BPF_NOEXIST`: only if the row does not exist.
pub(super) const NOEXIST: u64 = 1;

/// Commands of bpf(2) (include/uapi/linux/bpf.h, enum `bpf_cmd`).
const BPF_MAP_LOOKUP_ELEM: libc::c_long = 1;
const BPF_MAP_UPDATE_ELEM: libc::c_long = 2;
const BPF_MAP_DELETE_ELEM: libc::c_long = 3;
const BPF_MAP_GET_NEXT_KEY: libc::c_long = 4;
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_MAP_FREEZE: libc::c_long = 22;
const BPF_MAP_LOOKUP_BATCH: libc::c_long = 24;
const BPF_MAP_UPDATE_BATCH: libc::c_long = 26;
const BPF_MAP_DELETE_BATCH: libc::c_long = 27;
const BPF_LINK_UPDATE: libc::c_long = 29;
const BPF_LINK_DETACH: libc::c_long = 34;

/// `union bpf_attr` as `BPF_OBJ_GET` reads it.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr` as `BPF_LINK_DETACH` reads it.
#[repr(C)]
struct LinkDetach {
    link_fd: u32,
}

/// `union bpf_attr` as `BPF_OBJ_GET_INFO_BY_FD` reads it.
#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The front of `struct bpf_link_info`.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    /// `enum bpf_link_type`.
    kind: u32,
    id: u32,
    prog_id: u32,
    pad: u32,
    /// What it is attached to: the number of a cgroup in both words, or the index of an interface in the first.
    target: [u32; 2],
}

impl LinkInfo {
    #[expect(clippy::cast_possible_truncation, reason = "it is a few words long")]
    const LEN: u32 = size_of::<Self>() as u32;
}

/// `BPF_LINK_TYPE_CGROUP` of `enum bpf_link_type`.
const LINK_TYPE_CGROUP: u32 = 3;

/// Detaches the link that is pinned at `pin` before returning; a link whose interface is gone is already detached.
///
/// Removing the pin is not enough: the kernel releases a pinned object after a grace period and on a work queue
/// (kernel/bpf/inode.c, `bpf_free_inode`), and until then the program still receives packets.
///
/// # Errors
/// The kernel's error; `NotFound` if there is no such pin.
pub(super) fn detach(pin: &Path) -> io::Result<()> {
    let link = open(pin)?;
    // SAFETY: `LINK_DETACH` reads its attribute, which points nowhere.
    unsafe { bpf(BPF_LINK_DETACH, &mut LinkDetach { link_fd: link.as_raw_fd().cast_unsigned() }) }?;
    Ok(())
}

/// `union bpf_attr` as `BPF_LINK_UPDATE` reads it.
#[repr(C)]
struct LinkUpdate {
    link_fd: u32,
    new_prog_fd: u32,
    flags: u32,
    old_prog_fd: u32,
}

/// Gives the link that is pinned at `link` the program that is pinned at `program`, in the place of its own (kernel 5.7; tcx 6.6).
/// Each packet sees one of the two.
///
/// # Errors
/// The kernel's error; `ENOLINK` if the interface has gone.
pub(super) fn update(link: &Path, program: &Path) -> io::Result<()> {
    let (link, program) = (open(link)?, open(program)?);
    let mut request = LinkUpdate {
        link_fd: link.as_raw_fd().cast_unsigned(),
        new_prog_fd: program.as_raw_fd().cast_unsigned(),
        flags: 0,
        old_prog_fd: 0,
    };
    // SAFETY: `LINK_UPDATE` reads its attribute, which points nowhere.
    unsafe { bpf(BPF_LINK_UPDATE, &mut request) }?;
    Ok(())
}

/// Whether the link that is pinned at `pin` is attached. The kernel detaches it when its interface goes, and other tools may
/// detach it; the pin stays. False if there is no such pin.
///
/// # Errors
/// The kernel's error.
pub(super) fn is_attached(pin: &Path) -> io::Result<bool> {
    let link = match open(pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        link => link?,
    };
    let mut info = LinkInfo::default();
    let mut request = InfoByFd {
        bpf_fd: link.as_raw_fd().cast_unsigned(),
        info_len: LinkInfo::LEN,
        info: std::ptr::from_mut(&mut info).expose_provenance() as u64,
    };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, which is borrowed mutably and as long; every byte pattern is
    // a `LinkInfo`.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &mut request) }?;
    // A detached link has no cgroup (kernel/bpf/cgroup.c) or no interface (tcx.c, net/core/dev.c).
    let [first, second] = info.target;
    Ok(first != 0 || info.kind == LINK_TYPE_CGROUP && second != 0)
}

/// Opens a pinned object.
fn open(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut get = ObjGet { pathname: path.as_ptr().expose_provenance() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: `OBJ_GET` reads `get` and the path that it points to, which is alive.
    let fd = unsafe { bpf(BPF_OBJ_GET, &mut get) }?;
    // SAFETY: the kernel has just made this descriptor for the call above, so nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `union bpf_attr` as `BPF_MAP_FREEZE` reads it.
#[repr(C)]
struct MapFreeze {
    map_fd: u32,
}

/// Refuses every later change of a map from the user side (kernel 5.2). The map must not be mapped into memory.
///
/// # Errors
/// The kernel's error.
pub(super) fn freeze(map: &MapData) -> io::Result<()> {
    let map_fd = map.fd().as_fd().as_raw_fd().cast_unsigned();
    // SAFETY: `MAP_FREEZE` reads its attribute, which points nowhere.
    unsafe { bpf(BPF_MAP_FREEZE, &mut MapFreeze { map_fd }) }?;
    Ok(())
}

/// `union bpf_attr` as the batch commands read it; the kernel writes back how many rows it has done.
#[repr(C)]
struct Batch {
    /// Pointer to the key after which to start.
    after: u64,
    /// Pointer to where the last key is written.
    reached: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

impl Batch {
    /// For `count` rows of `map`, if its keys and rows have these sizes: the kernel copies as many bytes as it believes
    /// they have.
    fn new(map: &MapData, key: usize, row: Option<usize>, count: usize) -> io::Result<Self> {
        let info: MapInfo = map.info().map_err(io::Error::other)?;
        let fits = info.key_size() as usize == key && row.is_none_or(|row| info.value_size() as usize == row);
        if !fits {
            return Err(io::Error::other("the map has rows of another size"));
        }
        Ok(Self {
            after: 0,
            reached: 0,
            keys: 0,
            values: 0,
            count: u32::try_from(count).map_err(io::Error::other)?,
            map_fd: map.fd().as_fd().as_raw_fd().cast_unsigned(),
            elem_flags: 0,
            flags: 0,
        })
    }

    /// Carries out a command on all of the rows.
    ///
    /// # Safety
    /// Its pointers lead to room for as many keys and rows as it counts, which may be written if the command does.
    unsafe fn run(mut self, command: libc::c_long) -> io::Result<()> {
        let count = self.count;
        if count == 0 {
            return Ok(());
        }
        // SAFETY: as the caller guarantees.
        unsafe { bpf(command, &mut self) }?;
        if self.count == count {
            Ok(())
        } else {
            Err(io::Error::other("the kernel stopped before the last row"))
        }
    }
}

/// Reads the rows of an array map from `first` on (kernel 5.6).
pub(super) fn read_rows<V: Pod>(map: &MapData, first: u32, rows: &mut [V]) -> io::Result<()> {
    // The kernel starts after the given key.
    let before = first.checked_sub(1);
    let (mut reached, mut keys) = (0_u32, vec![0_u32; rows.len()]);
    let batch = Batch {
        after: before.as_ref().map_or(0, |before| std::ptr::from_ref(before).expose_provenance() as u64),
        reached: std::ptr::from_mut(&mut reached).expose_provenance() as u64,
        keys: keys.as_mut_ptr().expose_provenance() as u64,
        values: rows.as_mut_ptr().expose_provenance() as u64,
        ..Batch::new(map, size_of::<u32>(), Some(size_of::<V>()), rows.len())?
    };
    // SAFETY: `after` and `reached` point to one key, `keys` and `values` to `count` elements. Those that are written
    // are borrowed mutably, and every byte pattern is a `V`.
    unsafe { batch.run(BPF_MAP_LOOKUP_BATCH) }
}

/// How many rows are read at once. A bucket of a hash map must fit.
const AT_ONCE: usize = 4096;

/// Visits every row of a hash map (kernel 5.6). Rows that are added or removed meanwhile may be visited or not, all others are
/// visited once.
pub(super) fn each_row<K: bytemuck::Pod, V: bytemuck::Pod>(
    map: &MapData,
    mut visit: impl FnMut(K, V),
) -> io::Result<()> {
    let (mut keys, mut rows) = (vec![K::zeroed(); AT_ONCE], vec![V::zeroed(); AT_ONCE]);
    // The number of the bucket to go on with.
    let (mut before, mut reached) = (None::<u32>, 0_u32);
    loop {
        let after = before.as_ref().map_or(0, |before| std::ptr::from_ref(before).expose_provenance() as u64);
        let mut batch = Batch {
            after,
            reached: std::ptr::from_mut(&mut reached).expose_provenance() as u64,
            keys: keys.as_mut_ptr().expose_provenance() as u64,
            values: rows.as_mut_ptr().expose_provenance() as u64,
            ..Batch::new(map, size_of::<K>(), Some(size_of::<V>()), keys.len())?
        };
        // SAFETY: `after` and `reached` point to a word each, `keys` and `values` to `count` elements of the map's sizes. Those that
        // are written are borrowed mutably, and every byte pattern is a `K` and a `V`.
        let outcome = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut batch) };
        let is_last = match outcome.map_err(|error| (error.raw_os_error(), error)) {
            Ok(_) => false,
            Err((Some(libc::ENOENT), _)) => true,
            Err((Some(libc::ENOSPC), _)) => {
                let more = keys.len() * 2;
                keys.resize(more, K::zeroed());
                rows.resize(more, V::zeroed());
                continue;
            }
            Err((_, error)) => return Err(error),
        };
        keys.iter().zip(&rows).take(batch.count as usize).for_each(|(key, row)| visit(*key, *row));
        if is_last {
            return Ok(());
        }
        before = Some(reached);
    }
}

/// Writes rows, whether or not they exist: as many `rows` as `keys` (kernel 5.6; LPM tries later).
pub(super) fn write_rows<K: Pod, V: Pod>(map: &MapData, keys: &[K], rows: &[V]) -> io::Result<()> {
    let batch = Batch {
        keys: keys.as_ptr().expose_provenance() as u64,
        values: rows.as_ptr().expose_provenance() as u64,
        ..Batch::new(map, size_of::<K>(), Some(size_of::<V>()), keys.len().min(rows.len()))?
    };
    // SAFETY: the command only reads both, and they have at least `count` elements.
    unsafe { batch.run(BPF_MAP_UPDATE_BATCH) }
}

/// Removes rows, all of which must exist (as [`write_rows`]).
pub(super) fn remove_rows<K: Pod>(map: &MapData, keys: &[K]) -> io::Result<()> {
    let batch = Batch {
        keys: keys.as_ptr().expose_provenance() as u64,
        ..Batch::new(map, size_of::<K>(), None, keys.len())?
    };
    // SAFETY: the command only reads the keys, which have `count` elements.
    unsafe { batch.run(BPF_MAP_DELETE_BATCH) }
}

/// A map as bytes: its rows have types of another version of netd.
#[derive(Debug)]
pub(super) struct RawMap {
    fd: OwnedFd,
    /// Length of a key, bytes.
    pub(super) key: usize,
    /// Length of a row, bytes.
    pub(super) row: usize,
}

/// `union bpf_attr` as the commands for one row read it. `value` is the next key of `MAP_GET_NEXT_KEY`.
#[repr(C)]
struct OneRow {
    map_fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl RawMap {
    /// Opens a pinned map that has one row for all CPUs.
    pub(super) fn open(pin: &Path) -> io::Result<Self> {
        let info = MapInfo::from_pin(pin).map_err(io::Error::other)?;
        let (key, row) = (info.key_size() as usize, info.value_size() as usize);
        Ok(Self { fd: open(pin)?, key, row })
    }

    /// # Safety
    /// `key` and `value` are null or lead to as many bytes as the map's keys and rows have; those of `value` may be written.
    unsafe fn run(&self, command: libc::c_long, key: u64, value: u64, flags: u64) -> io::Result<()> {
        let mut request = OneRow { map_fd: self.fd.as_raw_fd().cast_unsigned(), pad: 0, key, value, flags };
        // SAFETY: as the caller guarantees.
        unsafe { bpf(command, &mut request) }?;
        Ok(())
    }

    fn check(&self, key: &[u8], row: Option<&[u8]>) -> io::Result<()> {
        let fits = key.len() == self.key && row.is_none_or(|row| row.len() == self.row);
        if fits { Ok(()) } else { Err(io::Error::other("the map has rows of another size")) }
    }

    /// The row of a key.
    pub(super) fn get(&self, key: &[u8]) -> io::Result<Option<Vec<u8>>> {
        self.check(key, None)?;
        let mut row = vec![0_u8; self.row];
        let (from, to) = (key.as_ptr().expose_provenance(), row.as_mut_ptr().expose_provenance());
        // SAFETY: both lengths are those of the map, the key's was checked.
        match unsafe { self.run(BPF_MAP_LOOKUP_ELEM, from as u64, to as u64, 0) } {
            Ok(()) => Ok(Some(row)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a row: as `BPF_ANY`, or with [`NOEXIST`] only if there is none, which is no error.
    pub(super) fn put(&self, key: &[u8], row: &[u8], flags: u64) -> io::Result<()> {
        self.check(key, Some(row))?;
        let (key, row) = (key.as_ptr().expose_provenance(), row.as_ptr().expose_provenance());
        // SAFETY: the command only reads both, whose lengths were checked.
        match unsafe { self.run(BPF_MAP_UPDATE_ELEM, key as u64, row as u64, flags) } {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            outcome => outcome,
        }
    }

    /// Removes a row. Absent is fine.
    pub(super) fn remove(&self, key: &[u8]) -> io::Result<()> {
        self.check(key, None)?;
        // SAFETY: the command only reads the key, whose length was checked.
        match unsafe { self.run(BPF_MAP_DELETE_ELEM, key.as_ptr().expose_provenance() as u64, 0, 0) } {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    /// The key after this one; the first one after none, and after one that has gone.
    fn next_key(&self, key: Option<&[u8]>) -> io::Result<Option<Vec<u8>>> {
        let mut next = vec![0_u8; self.key];
        let key = key.map_or(0, |key| key.as_ptr().expose_provenance() as u64);
        let to = next.as_mut_ptr().expose_provenance() as u64;
        // SAFETY: `key` is null or a key of this map, and `next` is as long.
        match unsafe { self.run(BPF_MAP_GET_NEXT_KEY, key, to, 0) } {
            Ok(()) => Ok(Some(next)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Visits every row of a map that nobody changes meanwhile.
    pub(super) fn each_still(&self, mut visit: impl FnMut(&[u8], &[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut next = self.next_key(None)?;
        while let Some(key) = next {
            if let Some(row) = self.get(&key)? {
                visit(&key, &row)?;
            }
            next = self.next_key(Some(&key))?;
        }
        Ok(())
    }

    /// Visits the keys of a hash map, many at a time (kernel 5.6). Those that are added or removed meanwhile may be visited or not, all
    /// others are visited once.
    pub(super) fn each_keys(&self, mut visit: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut at_once = AT_ONCE;
        let (mut before, mut reached) = (None::<u32>, 0_u32);
        loop {
            let (mut keys, mut rows) = (vec![0_u8; at_once * self.key], vec![0_u8; at_once * self.row]);
            let mut batch = Batch {
                after: before.as_ref().map_or(0, |at| std::ptr::from_ref(at).expose_provenance() as u64),
                reached: std::ptr::from_mut(&mut reached).expose_provenance() as u64,
                keys: keys.as_mut_ptr().expose_provenance() as u64,
                values: rows.as_mut_ptr().expose_provenance() as u64,
                count: u32::try_from(at_once).map_err(io::Error::other)?,
                map_fd: self.fd.as_raw_fd().cast_unsigned(),
                elem_flags: 0,
                flags: 0,
            };
            // SAFETY: `after` and `reached` point to a word each, `keys` and `values` to `count` elements of the map's sizes, which are
            // borrowed mutably.
            let outcome = unsafe { bpf(BPF_MAP_LOOKUP_BATCH, &mut batch) };
            let is_last = match outcome.map_err(|error| (error.raw_os_error(), error)) {
                Ok(_) => false,
                Err((Some(libc::ENOENT), _)) => true,
                Err((Some(libc::ENOSPC), _)) => {
                    at_once *= 2;
                    continue;
                }
                Err((_, error)) => return Err(error),
            };
            visit(keys.get(..batch.count as usize * self.key).unwrap_or_default())?;
            if is_last {
                return Ok(());
            }
            before = Some(reached);
        }
    }
}

/// bpf(2) with a command and the part of `union bpf_attr` that it reads and writes.
///
/// # Safety
/// `attr` is what the command takes, and what it points to is alive and long enough.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is valid for the call and its size is given; the caller guarantees the same of what it points to
    // (kernel/bpf/syscall.c).
    let code = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if code < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(code).map_err(io::Error::other) }
}
