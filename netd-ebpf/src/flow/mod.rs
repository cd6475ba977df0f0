//! The flow tables: finding a packet's row, making and updating the two rows of a connection, forwarding.
//!
//! | room | owns |
//! |---|---|
//! | [`packet`] | a packet that has been read, and forwarding it by its row |
//! | [`datagram`] | the ports of fragments |
//! | [`table`] | finding rows, and whether they are live |
//! | [`open`] | making the rows of a new connection |
//! | [`room`] | room for connections: what is removed for a new one |
//! | [`conntrack`] | updating a connection, and forwarding its packet |
//! | [`fast`] | packets of established connections, which need no update |

pub(crate) mod conntrack;
pub(crate) mod datagram;
pub(crate) mod fast;
pub(crate) mod open;
pub(crate) mod packet;
pub(crate) mod room;
pub(crate) mod table;
