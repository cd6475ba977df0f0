//! Transactions: the only writers. A transaction holds the instance's lock, takes one snapshot of the host, plans, and changes
//! the host, the BPF tables and the records.

mod container;
mod desired;
mod down;
mod interface;
mod leftovers;
mod lifecycle;
mod network;
mod publication;
mod repair;
mod setting;
mod transaction;
mod upgrade;
mod uplink;

pub use down::remove_gone;
pub use repair::Effort;
pub use transaction::Transaction;
pub(crate) use uplink::takes_frames;
