//! Which netd the loaded programs are of.

use std::fmt;

use serde::Serialize;

/// The version of a set of programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProgramsVersion {
    /// The version of the netd that has loaded them.
    pub version: String,
    /// The number of their contract with netd.
    pub abi: u32,
    /// SHA-256 of the object that they are of, hexadecimal digits.
    pub digest: String,
    /// Whether they are those of the netd that tells this.
    #[serde(rename = "own")]
    pub is_own: bool,
}

impl fmt::Display for ProgramsVersion {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, abi, digest, .. } = self;
        write!(to, "{version} (programs {digest:.12}, ABI {abi})")
    }
}

/// The programs that are in place, and those whose places they have taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Upgraded {
    /// The versions that were replaced.
    pub replaced: Vec<ProgramsVersion>,
    /// The version of this netd.
    pub programs: ProgramsVersion,
}
