//! The state folder: the records of everything that this instance has made, for later commands.
//!
//! ```text
//! DIR/                      the state folder
//! ├─ COOKIE.serve           held by the process that follows the host, see [`presence`]
//! └─ COOKIE/                one folder for each network namespace that is a host: inodes are reused, cookies are not
//!    ├─ lock                held by the transaction that is at work
//!    ├─ metrics.sock        where the follower serves metrics
//!    ├─ state.json          replaced as a whole, never half written: everything but the publications themselves
//!    └─ publications        a row each, see [`rows`]
//! ```

mod file;
mod lock;
mod presence;
mod rows;

pub(crate) use file::{Stamp, Store, read, stamp};
pub use file::{parse, write};
pub(crate) use lock::{instance, key};
pub use presence::FollowerNote;
pub(crate) use presence::{Presence, follower, unix_millis};
