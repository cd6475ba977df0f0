//! The stages: programs for packets that the fast path cannot finish.
//!
//! | room | packets |
//! |---|---|
//! | [`dispatch`] | the next stage, and the action that TC gets |
//! | [`new`] | of no flow: the policy decides, and a flow is opened |
//! | [`broadcast`] | that are broadcast on an uplink's link |
//! | [`container`] | from a container that are not of an established flow |
//! | [`icmp`] | ICMP errors about a flow's packets |
//! | [`fragment`] | fragments that arrive before the first of their datagram |
//! | [`nat64`] | of IPv6 clients of containers that have only IPv4 |
//! | [`answer`] | that are dropped and answered with an ICMP error |
//! | [`report`] | that are dropped and reported |

pub(crate) mod answer;
pub(crate) mod broadcast;
pub(crate) mod container;
pub(crate) mod dispatch;
pub(crate) mod fragment;
pub(crate) mod icmp;
pub(crate) mod nat64;
pub(crate) mod new;
pub(crate) mod report;
