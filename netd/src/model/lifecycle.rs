//! The life of whatever netd makes.

use serde::{Deserialize, Serialize};

/// How far a record has come. A record is written before what it describes is touched, and removed after that is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lifecycle {
    /// Being made. If no transaction is at work, one was killed over it.
    Adding,
    /// Complete.
    Ready,
    /// Of a publication: another one has its ports, and only its connections are left.
    Draining,
    /// Being removed.
    Removing,
}
