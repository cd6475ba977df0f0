//! Network namespaces: making, finding, entering and removing them. The only room that changes the namespace of a
//! thread.
//!
//! A separate thread enters another namespace, does one thing (opens a socket, writes a sysctl) and ends. A socket
//! belongs to the namespace in which it was opened, wherever it is used.

use std::cell::Cell;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, fstatfs};
use nix::time::{ClockId, clock_gettime};

use crate::error::{ContainerError, Doing as _, Error, HostError, Lack, Result};

/// The folder of named namespaces, as in iproute2.
const NAMED: &str = "/run/netns";
/// `NSFS_MAGIC` of linux/magic.h.
const NSFS_MAGIC: FsType = FsType(0x6e73_6673);

/// A network namespace, kept alive while this is held.
#[derive(Clone, Debug)]
pub struct Netns {
    file: Arc<File>,
    path: PathBuf,
}

impl Netns {
    /// The namespace with this cookie at a path; none if nothing or another namespace is there.
    pub fn proven(path: &Path, cookie: u64) -> Result<Option<Self>> {
        match Self::open(path) {
            Ok(netns) => Ok((netns.cookie()? == cookie).then_some(netns)),
            // Nothing is there, or a file that is not a namespace.
            Err(Error::Container(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The namespace at a path, as `ip netns`, Docker and Podman mount them.
    pub fn open(path: &Path) -> Result<Self> {
        let what = || format!("open network namespace {}", path.display());
        let file = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => ContainerError::NoNamespace { path: path.to_owned() }.into(),
            _ => Error::system(what(), error),
        })?;
        let not_one = || Error::from(ContainerError::NotANamespace { path: path.to_owned() });
        if fstatfs(&file).doing(what)?.filesystem_type() != NSFS_MAGIC {
            return Err(not_one());
        }
        let netns = Self { file: Arc::new(file), path: path.to_owned() };
        // Entering it also checks its kind: the kernel refuses a mount or user namespace here.
        match on_a_thread(|| setns(&*netns.file, CloneFlags::CLONE_NEWNET))? {
            Ok(()) => Ok(netns),
            Err(Errno::EPERM) => Err(HostError::NotRoot.into()),
            Err(_) => Err(not_one()),
        }
    }

    /// Makes a namespace without a name. It ends when this is dropped, unless [`Self::mount`] has given it a name.
    pub fn create() -> Result<Self> {
        let made = on_a_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })?;
        let file = made.doing(|| "make a network namespace".into())?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
        Ok(Self { file: Arc::new(file), path })
    }

    /// Mounts it at `path` below /run/netns, as `ip netns add` does. Fails if the path exists.
    pub fn mount(self, path: &Path) -> Result<Self> {
        let what = || format!("make network namespace {}", path.display());
        share_folder()?;
        let mut exclusively = OpenOptions::new();
        exclusively.write(true).create_new(true).mode(0o444);
        exclusively.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => ContainerError::NamespaceExists { path: path.to_owned() }.into(),
            _ => Error::system(what(), error),
        })?;
        let mounted = mount(Some(&self.path), path, None::<&str>, MsFlags::MS_BIND, None::<&str>).doing(what);
        match mounted {
            Ok(()) => Ok(Self { path: path.to_owned(), ..self }),
            Err(error) => {
                // The first failure is the one to report; an empty file does no harm.
                let _second = fs::remove_file(path);
                Err(error)
            }
        }
    }

    /// Removes the name of the namespace with this cookie. The kernel ends the namespace when its last process has
    /// ended. If nothing or another namespace is at the path, nothing is changed.
    pub fn remove(path: &Path, cookie: u64) -> Result<()> {
        let what = || format!("remove network namespace {}", path.display());
        let is_ours = match Self::open(path) {
            Ok(netns) => netns.cookie()? == cookie,
            // A killed command may leave the empty file on which it was about to mount the namespace.
            Err(Error::Container(_)) => {
                fs::metadata(path).is_ok_and(|file| file.is_file() && file.len() == 0)
            }
            Err(error) => return Err(error),
        };
        if !is_ours {
            return Ok(());
        }
        match umount2(path, MntFlags::MNT_DETACH) {
            // Not mounted: only the file was made. Not found: already removed.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => return Err(Error::system(what(), errno)),
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::system(what(), error)),
            _ => Ok(()),
        }
    }

    /// The path where it was opened.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its cookie, which no other namespace of this boot has.
    pub fn cookie(&self) -> Result<u64> {
        let what = || format!("read the cookie of {}", self.path.display());
        let socket = self.run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))?.doing(what)?;
        let mut cookie = 0_u64;
        let mut len: libc::socklen_t = 8;
        // SAFETY: the descriptor is open for the call, and the option's value and its length are live, aligned places
        // on this stack; the kernel writes at most the eight bytes of `cookie` that `len` grants (net/core/sock.c,
        // SO_NETNS_COOKIE).
        let code = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_NETNS_COOKIE,
                (&raw mut cookie).cast(),
                &raw mut len,
            )
        };
        if code == 0 {
            return Ok(cookie);
        }
        Err(Error::system(what(), io::Error::last_os_error()).lacks(Lack::NetnsCookies))
    }

    /// Whether both are the same namespace.
    pub fn is(&self, other: &Self) -> Result<bool> {
        Ok(self.inode()? == other.inode()?)
    }

    fn inode(&self) -> Result<u64> {
        Ok(self.file.metadata().doing(|| format!("inspect {}", self.path.display()))?.ino())
    }

    /// Runs `visit` inside, on a separate thread.
    pub fn run<T: Send>(&self, visit: impl FnOnce() -> T + Send) -> Result<T> {
        on_a_thread(|| {
            setns(&*self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(visit())
        })?
        .map_err(|errno: Errno| {
            Error::system(format!("enter network namespace {}", self.path.display()), errno)
        })
    }

    /// Moves the calling thread inside permanently, for a process that is about to call exec.
    pub fn enter(&self) -> Result<()> {
        setns(&*self.file, CloneFlags::CLONE_NEWNET)
            .doing(|| format!("enter network namespace {}", self.path.display()))
    }

    /// Whether another process is inside, or the namespace is mounted somewhere.
    pub fn is_used_by_others(&self) -> Result<bool> {
        let inode = self.inode()?;
        let own = std::process::id();
        let mut others = fs::read_dir("/proc").doing(|| "read /proc".into())?.flatten().filter(|entry| {
            let name = entry.file_name();
            name.to_str().and_then(|name| name.parse().ok()).is_some_and(|pid: u32| pid != own)
        });
        if others.any(|entry| fs::metadata(entry.path().join("ns/net")).is_ok_and(|ns| ns.ino() == inode)) {
            return Ok(true);
        }
        let mounts =
            fs::read_to_string("/proc/self/mountinfo").doing(|| "read /proc/self/mountinfo".into())?;
        let root = format!("net:[{inode}]");
        Ok(mounts.lines().any(|line| line.split(' ').nth(3) == Some(root.as_str())))
    }

    /// The processes inside.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let inode = self.inode()?;
        let mut inside = Vec::new();
        for entry in fs::read_dir("/proc").doing(|| "read /proc".into())? {
            let Ok(entry) = entry else { continue };
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // A process that has ended meanwhile, or a kernel thread, has no namespace link.
            if fs::metadata(entry.path().join("ns/net")).is_ok_and(|ns| ns.ino() == inode) {
                inside.push(pid);
            }
        }
        Ok(inside)
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_a_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    let timed = || (work(), own_cpu_time());
    let (done, time) = std::thread::scope(|scope| {
        scope.spawn(timed).join().map_err(|_panic| {
            Error::system("work in a network namespace", io::Error::other("the visiting thread panicked"))
        })
    })?;
    VISITS.set(VISITS.get() + time);
    Ok(done)
}

thread_local! {
    /// The CPU time of the threads that have visited namespaces for this one.
    static VISITS: Cell<Duration> = const { Cell::new(Duration::ZERO) };
}

/// The CPU time that this thread has used, with the threads that have visited namespaces for it. Unlike the time that has passed,
/// it does not grow when the host is busy.
pub(crate) fn cpu_time() -> Duration {
    own_cpu_time() + VISITS.get()
}

fn own_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Makes /run/netns a shared mount point, as `ip netns add` does, so that other mount namespaces also see the new
/// names.
fn share_folder() -> Result<()> {
    let what = || format!("make {NAMED} a shared mount");
    fs::create_dir_all(NAMED).doing(what)?;
    let shared = MsFlags::MS_SHARED | MsFlags::MS_REC;
    let share = || mount(None::<&str>, NAMED, None::<&str>, shared, None::<&str>);
    match share() {
        // It is not a mount point yet. After any other failure one more mount on it would double all that are below it.
        Err(Errno::EINVAL) => {}
        shared => return shared.doing(what),
    }
    mount(Some(NAMED), NAMED, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>).doing(what)?;
    share().doing(what)
}
