//! Taking a link off its hook at once: what of bpf(2) aya has no word for.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

/// Commands of bpf(2) (include/uapi/linux/bpf.h, enum `bpf_cmd`).
const BPF_OBJ_GET: libc::c_long = 7;
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

/// Takes the link that is pinned at `pin` off its hook before returning; a link whose interface is gone is off already.
///
/// Removing the pin alone is not enough: the kernel lets go of a pinned object after a grace period and on a work queue
/// (kernel/bpf/inode.c, `bpf_free_inode`), and until then the program still sees packets.
///
/// # Errors
/// What the kernel says; `NotFound` if there is no such pin.
pub(super) fn detach(pin: &Path) -> io::Result<()> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let get = ObjGet { pathname: path.as_ptr().expose_provenance() as u64, bpf_fd: 0, file_flags: 0 };
    let fd = bpf(BPF_OBJ_GET, &get)?;
    // SAFETY: the kernel has just made this descriptor for the call above, so nobody else owns it.
    let link = unsafe { OwnedFd::from_raw_fd(fd) };
    bpf(BPF_LINK_DETACH, &LinkDetach { link_fd: link.as_raw_fd().cast_unsigned() })?;
    Ok(())
}

/// bpf(2) with a command and the part of `union bpf_attr` that it reads.
fn bpf<T>(command: libc::c_long, attr: &T) -> io::Result<i32> {
    // SAFETY: `attr` is alive for the call and its size is given; both commands only read it, and the path that one of
    // them points to is alive in the caller (kernel/bpf/syscall.c, bpf_obj_get and link_detach).
    let code = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) };
    if code < 0 { Err(io::Error::last_os_error()) } else { i32::try_from(code).map_err(io::Error::other) }
}
