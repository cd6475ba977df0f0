//! Changes of a namespace, as the kernel announces them.

use std::io;

use netlink_sys::protocols::{NETLINK_ROUTE, NETLINK_XFRM};
use netlink_sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};

use crate::error::{Doing as _, Result};
use crate::netns::Netns;

/// The groups of rtnetlink that announce what netd depends on (linux/rtnetlink.h): interfaces, tc, addresses, routes, rules, and
/// the switches of interfaces (`forwarding`, `rp_filter`).
const ROUTE_GROUPS: [u32; 10] = [
    1,  // RTNLGRP_LINK
    4,  // RTNLGRP_TC
    5,  // RTNLGRP_IPV4_IFADDR
    7,  // RTNLGRP_IPV4_ROUTE
    8,  // RTNLGRP_IPV4_RULE
    9,  // RTNLGRP_IPV6_IFADDR
    11, // RTNLGRP_IPV6_ROUTE
    19, // RTNLGRP_IPV6_RULE
    24, // RTNLGRP_IPV4_NETCONF
    25, // RTNLGRP_IPV6_NETCONF
];
/// The group of xfrm that announces IPsec policies (linux/xfrm.h).
const XFRMNLGRP_POLICY: u32 = 4;

/// Sockets that hear of every change.
pub(crate) struct Changes {
    route: TokioSocket,
    /// None if the kernel has no IPsec.
    xfrm: Option<TokioSocket>,
}

impl Changes {
    /// Listens from now on. Needs a tokio runtime.
    pub(crate) fn of(netns: &Netns) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let sockets = netns.run(|| {
            let _context = runtime.enter();
            let route = listen(NETLINK_ROUTE, ROUTE_GROUPS)?;
            let xfrm = match listen(NETLINK_XFRM, [XFRMNLGRP_POLICY]) {
                Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => None,
                xfrm => Some(xfrm?),
            };
            Ok::<_, io::Error>((route, xfrm))
        })?;
        let (route, xfrm) = sockets.doing(|| format!("listen for changes of {}", netns.path().display()))?;
        Ok(Self { route, xfrm })
    }

    /// Waits until something has changed. It is not told what: a change may be lost in a burst, so the whole has to be looked at.
    pub(crate) async fn next(&mut self) -> Result<()> {
        let Self { route, xfrm } = self;
        let ipsec = async {
            match xfrm {
                Some(socket) => heard(socket).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = heard(route) => heard,
            heard = ipsec => heard,
        }
        .doing(|| "listen for changes of the host".into())
    }
}

fn listen(protocol: isize, groups: impl IntoIterator<Item = u32>) -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(protocol)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 0))?;
    groups.into_iter().try_for_each(|group| socket.socket_mut().add_membership(group))?;
    Ok(socket)
}

/// Takes one announcement.
async fn heard(socket: &mut TokioSocket) -> io::Result<()> {
    match socket.recv_from_full().await {
        // Some were lost: that is news as well.
        Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(()),
        heard => heard.map(|_message| ()),
    }
}
