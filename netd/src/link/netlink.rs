//! A netlink socket in one namespace, and its errors.

use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{AsyncSocket as _, TokioSocket};
use rtnetlink::Handle;

use crate::error::{Doing as _, Error, Lack, Result};
use crate::netns::Netns;

/// rtnetlink in one namespace.
#[derive(Clone, Debug)]
pub(crate) struct Netlink {
    pub(super) handle: Handle,
}

impl Netlink {
    /// Opens a netlink socket inside `netns`. Needs a tokio runtime, which runs the task of the connection.
    pub(crate) fn open(netns: &Netns) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let socket = netns
            .run(|| {
                let _context = runtime.enter();
                TokioSocket::new(NETLINK_ROUTE)
            })?
            .doing(|| format!("open a netlink socket in {}", netns.path().display()))?;
        let (connection, handle, _messages) = rtnetlink::from_socket(socket);
        runtime.spawn(connection);
        Ok(Self { handle })
    }
}

/// The kernel's reply; an error gets the description of the request.
pub(super) fn refused(what: String, error: rtnetlink::Error) -> Error {
    let error = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => return Error::system(what, other),
    };
    let permission = error.kind() == std::io::ErrorKind::PermissionDenied;
    let error = Error::system(what, error);
    if permission { error.lacks(Lack::NetCapabilities) } else { error }
}

/// The errno of an error, if the kernel gave one.
pub(super) fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io().raw_os_error(),
        _ => None,
    }
}
