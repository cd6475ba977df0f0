//! tc filters of interfaces.

use futures_util::TryStreamExt as _;
use netlink_packet_core::{NLM_F_ACK, NLM_F_REQUEST};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption};

use super::exchange::{receive, send};
use super::netlink::{Netlink, refused};
use crate::error::{Doing as _, Error, Result};
use crate::netns::Netns;

/// Where a clsact qdisc is (TC_H_CLSACT).
pub(super) const CLSACT_PARENT: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
/// The handle that the kernel gives the only qdisc that can be there.
pub(super) const CLSACT: TcHandle = TcHandle { major: 0xffff, minor: 0 };

/// A tc filter, as the kernel describes it.
#[derive(Clone, Debug)]
pub(crate) struct Filter(TcMessage);

impl Filter {
    /// Its priority: the lowest sees packets first.
    pub(crate) const fn priority(&self) -> u16 {
        (self.0.header.info >> 16) as u16
    }

    /// Its number among those of its priority.
    pub(crate) fn handle(&self) -> u32 {
        self.0.header.handle.into()
    }

    /// The number of its BPF program; none if it has none.
    pub(crate) fn program(&self) -> Option<u32> {
        let options = self.0.attributes.iter().filter_map(|attribute| match attribute {
            TcAttribute::Options(options) => Some(options),
            _ => None,
        });
        options.flatten().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(number)) => Some(*number),
            _ => None,
        })
    }
}

impl Netlink {
    /// The tc filters on an interface's ingress or egress, in the order in which they see packets.
    pub(crate) async fn filters(&self, index: u32, egress: bool) -> Result<Vec<Filter>> {
        let Ok(signed) = i32::try_from(index) else { return Ok(Vec::new()) };
        let request = self.handle.traffic_filter(signed).get();
        let request = if egress { request.egress() } else { request.ingress() };
        let found: Vec<TcMessage> = request
            .execute()
            .try_collect()
            .await
            .map_err(|error| refused(format!("list the tc filters of interface {index}"), error))?;
        // The kernel also describes the place of each priority, which has no handle.
        let is_filter = |one: &TcMessage| u32::from(one.header.handle) != 0;
        Ok(found.into_iter().filter(is_filter).map(Filter).collect())
    }
}

/// Whether an interface has a clsact qdisc, or one in its place.
pub(crate) fn has_clsact(netns: &Netns, index: u32) -> Result<bool> {
    let mut request = TcMessage::default();
    request.header.index = i32::try_from(index).unwrap_or(i32::MAX);
    (request.header.parent, request.header.handle) = (CLSACT_PARENT, CLSACT);
    let get = || {
        let socket = Socket::new(NETLINK_ROUTE)?;
        send(&socket, NLM_F_REQUEST | NLM_F_ACK, RouteNetlinkMessage::GetQueueDiscipline(request))?;
        receive(&socket, |_: RouteNetlinkMessage| ())
    };
    match netns.run(get)? {
        Ok(()) => Ok(true),
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOENT | libc::EINVAL)) => {
            Ok(false)
        }
        Err(error) => Err(Error::system(format!("look up the clsact qdisc of interface {index}"), error)),
    }
}

/// Removes a tc filter.
pub(crate) fn delete_filter(netns: &Netns, filter: &Filter) -> Result<()> {
    let Filter(message) = filter;
    let delete = || {
        let socket = Socket::new(NETLINK_ROUTE)?;
        let request = TcMessage::from_parts(message.header.clone(), Vec::new());
        send(&socket, NLM_F_REQUEST | NLM_F_ACK, RouteNetlinkMessage::DelTrafficFilter(request))?;
        receive(&socket, |_: RouteNetlinkMessage| ())
    };
    netns.run(delete)?.doing(|| format!("remove a tc filter of interface {}", message.header.index))
}
