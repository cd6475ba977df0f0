//! Failures about netd's own records and BPF tables.

use std::path::PathBuf;

use super::kind::Kind;

/// A failure about netd's own records and tables.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// The file makes no sense.
    #[error("cannot parse {}: {why}", path.display())]
    NotUnderstood {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another version of netd wrote the file.
    #[error("{} has schema {found}, but this netd needs schema {expected}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// The file's schema.
        found: u32,
        /// This program's.
        expected: u32,
    },
    /// An instance was taken down without its records.
    #[error("the records could not be read, so network namespaces of containers may be left")]
    SetAside {
        /// Where the records are now.
        path: PathBuf,
    },
    /// Another transaction goes on for too long.
    #[error("{} is locked by {}", path.display(), holder.as_deref().unwrap_or("another process"))]
    Busy {
        /// The lock.
        path: PathBuf,
        /// Who holds it, if that is known.
        holder: Option<String>,
    },
    /// Somebody has started a follower that stays.
    #[error("another 'netd serve' follows this host already")]
    Followed,
    /// The flow tables have another size than is asked for.
    #[error("the tables have room for {present} connections, not for {wanted}")]
    Capacity {
        /// For how many connections the tables are made.
        present: u32,
        /// For how many they should be.
        wanted: u32,
    },
    /// The pinned programs and tables are gone.
    #[error("the BPF programs of this instance are missing")]
    ProgramsGone,
    /// Another version of netd made the pinned programs and tables.
    #[error("the BPF programs and tables were made by another version of netd: {difference}")]
    OtherVersion {
        /// What differs, with both sides.
        difference: String,
    },
    /// The connections in tables of another version cannot be carried over to those of this one.
    #[error(
        "the rows of table {map}, which netd {version} has made, cannot be carried over to those of this netd"
    )]
    CannotCarry {
        /// The table.
        map: String,
        /// The version that has made it.
        version: String,
    },
    /// Another version of netd has put its programs in the place of those that this process follows.
    #[error("another version of netd has put its programs in place")]
    Superseded,
    /// The compiled object is not complete.
    #[error("the BPF object has no {what} {name}")]
    Incomplete {
        /// "program" or "map".
        what: &'static str,
        /// Its name.
        name: String,
    },
}

impl StateError {
    /// The failure's kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::Schema { .. }
            | Self::Capacity { .. }
            | Self::OtherVersion { .. }
            | Self::CannotCarry { .. }
            | Self::Superseded
            | Self::Busy { .. }
            | Self::Followed => Kind::Conflict,
            Self::NotUnderstood { .. }
            | Self::ProgramsGone
            | Self::Incomplete { .. }
            | Self::SetAside { .. } => Kind::System,
        }
    }
}
