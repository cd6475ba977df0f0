//! The kinds of failures, and what all of them share.

/// The kind of a failure: the `kind` of the JSON error object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request makes no sense (a malformed port, CIDR, name …).
    Invalid,
    /// The network, container or publication does not exist.
    NotFound,
    /// It exists already, or what it asks for is in use.
    Conflict,
    /// netd must be root, or lacks a capability.
    Permission,
    /// The kernel or the machine lacks something that netd needs.
    Unsupported,
    /// The kernel, a file or another program refused.
    System,
}

/// Texts joined by commas.
pub(super) fn list<T: ToString>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
