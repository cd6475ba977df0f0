//! Connections: the keys and rows of the flow tables, and the rewrite of a packet by its row.
//!
//! | room | owns |
//! |---|---|
//! | [`handle`] | slots and generations, which tell a live row from a stale one |
//! | [`key`] | the key of a flow |
//! | [`row`] | the row of a flow: how its packets are translated, and what has been seen |
//! | [`state`] | the conntrack state of a connection, and how long it may be idle |
//! | [`numbers`] | which packets count for the state, by TCP's sequence numbers and SCTP's tags |
//! | [`tick`] | the datapath's clock |
//! | [`nat`] | the two rows of a connection, made from the NAT that it gets |
//! | [`rewrite`] | the rewrite of a packet by its row |

pub mod handle;
pub mod key;
pub mod nat;
pub mod numbers;
pub mod rewrite;
pub mod row;
pub mod state;
pub mod tick;

pub use handle::Handle;
pub use key::{FlowKey, Tuple, Zone};
pub use row::FlowRow;
pub use state::State;
