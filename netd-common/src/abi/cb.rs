//! The control-block words (`__sk_buff::cb`): what one program stores in a packet for the next stage.
//!
//! A packet has five words. Some are used twice, for facts that are never needed at the same time.

/// Why the packet is dropped: the number of a [`Reason`](crate::verdict::Reason).
pub const REASON: usize = 0;
/// 1 once the ports of a first fragment have been stored, else 0. Not needed any more once the packet is dropped, see
/// [`REASON`].
pub const PORTS_NOTED: usize = 0;
/// The MTU that the packet exceeds, bytes.
pub const MTU: usize = 1;
/// Index of the interface that a packet from a container leaves by. At that point no [`MTU`] is stored yet.
pub const OIF: usize = 1;
/// What happens to a fragment once a copy of it is in the fragment queue. At that point no [`OIF`] is stored yet.
pub const AFTER_QUEUE: usize = 1;
/// How many places in a ring of connections have been looked at for the packet's connection. At that point [`OIF`] is not needed any
/// more.
pub const LOOKED_AT: usize = 1;
/// The [`Zone`](crate::flow::Zone) that the packet comes from: an interface index, zero for outside.
pub const ZONE: usize = 2;
/// 1 once the packet's flow has been made, else 0.
pub const OPENED: usize = 3;
/// How many source ports have been tried.
pub const TRIES: usize = 4;
/// The stage that follows once the packet's connection has its place in a flow table; 0 if the packet has been sent. Its
/// source port is chosen then.
pub const AFTER_ROOM: usize = 4;
