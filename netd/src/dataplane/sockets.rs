//! The host's own connections in the table of sockets.

use std::net::IpAddr;

use netd_common::abi::{SocketKey, SocketRow, name};

use super::tables::{Tables, absent_is_fine, unified};
use super::wire::Wire;
use crate::error::{Doing as _, Result};

impl Tables {
    /// The sockets of the host that use a published port and were redirected to one of these addresses.
    pub(crate) fn sockets_to(&self, targets: &[IpAddr]) -> Result<Vec<SocketKey>> {
        let targets: Vec<_> = targets.iter().copied().map(unified).collect();
        let rows = self.lru::<SocketKey, SocketRow>(name::SOCKETS)?;
        // If a row is evicted during the walk, the walk ends. Sockets whose rows were evicted cannot be found.
        let keys = rows.keys().map_while(std::result::Result::ok).map(|Wire(key)| key);
        Ok(keys.filter(|key| targets.contains(&key.target)).collect())
    }

    /// Deletes the rows of sockets. They may be absent.
    pub(crate) fn forget_sockets(&self, sockets: &[SocketKey]) -> Result<()> {
        let mut rows = self.lru::<SocketKey, SocketRow>(name::SOCKETS)?;
        sockets.iter().try_for_each(|key| {
            absent_is_fine(rows.remove(&Wire(*key))).doing(|| format!("remove a row of {}", name::SOCKETS))
        })
    }
}
