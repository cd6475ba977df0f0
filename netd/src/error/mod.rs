//! What can go wrong: one type, whose variants hold the data that a front end needs to explain a failure.
//!
//! `Display` is one neutral sentence, lower case and without a full stop. Advice in the words of a command line is the
//! front end's to add.

mod container;
mod host;
mod kind;
mod network;
mod position;
mod publication;
mod state;

pub use container::ContainerError;
pub use host::HostError;
pub use kind::Kind;
pub use network::{NetworkError, SubnetFault};
pub use position::Position;
pub use publication::{Holder, PublicationError};
pub use state::StateError;

/// A failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text that cannot be parsed as what it should be.
    #[error("{message}")]
    Malformed {
        /// What is wrong, with the text in quotes.
        message: String,
        /// What would be right.
        expected: Option<String>,
    },
    /// About a network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// About a container or its namespace.
    #[error(transparent)]
    Container(#[from] ContainerError),
    /// About a published port.
    #[error(transparent)]
    Publication(#[from] PublicationError),
    /// About the host: its interfaces, addresses, kernel.
    #[error(transparent)]
    Host(#[from] HostError),
    /// About netd's own records and BPF tables.
    #[error(transparent)]
    State(#[from] StateError),
    /// The kernel, a file or another program refused.
    #[error("cannot {doing}")]
    System {
        /// What was tried on what: "create bridge netd0".
        doing: String,
        /// What the machine probably lacks, if that is known.
        lack: Option<Lack>,
        /// The refusal.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// About something that a file asks for.
    #[error("{at}: {}", .error.chain())]
    InFile {
        /// Where it stands.
        at: Position,
        /// The failure.
        error: Box<Error>,
    },
    /// Several failures, at least two, in the order in which they happened.
    #[error("{}", .0.iter().map(Error::chain).collect::<Vec<_>>().join("; "))]
    Many(Vec<Error>),
}

/// What a machine lacks when the kernel refuses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Lack {
    /// `CAP_NET_ADMIN` and `CAP_SYS_ADMIN`.
    NetCapabilities,
    /// `CAP_BPF`, `CAP_NET_ADMIN` and `CAP_PERFMON`.
    BpfCapabilities,
    /// A kernel that takes the BPF programs: 5.15 or newer with BTF and cgroup v2.
    BpfSupport,
    /// A place to mount the BPF file system: `/sys` must be mounted and writable.
    BpfFs,
    /// Cookies of network namespaces (kernel 5.14).
    NetnsCookies,
    /// A free port of a bridge: Linux has at most 1,023 (`BR_MAX_PORTS`).
    BridgePort,
    /// A route of the host to this address.
    Route(std::net::IpAddr),
}

/// `Result` with netd's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A text that cannot be parsed; `message` has the text in quotes.
    pub fn malformed(message: impl Into<String>) -> Self {
        Self::Malformed { message: message.into(), expected: None }
    }

    /// Adds what would be right to a [`Self::Malformed`].
    #[must_use]
    pub fn expected(mut self, text: impl Into<String>) -> Self {
        if let Self::Malformed { expected, .. } = &mut self {
            *expected = Some(text.into());
        }
        self
    }

    /// A refusal by the kernel, the file system or another program; `doing` says what was tried on what.
    pub fn system(
        doing: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self::System { doing: doing.into(), lack: None, source: source.into() }
    }

    /// Adds what the machine probably lacks to a [`Self::System`].
    #[must_use]
    pub fn lacks(mut self, what: Lack) -> Self {
        if let Self::System { lack, .. } = &mut self {
            *lack = Some(what);
        }
        self
    }

    /// Adds where in a file the failure's cause stands. A nearer place says more.
    #[must_use]
    pub(crate) fn at(self, at: &Position) -> Self {
        match self {
            Self::InFile { .. } => self,
            error => Self::InFile { at: at.clone(), error: Box::new(error) },
        }
    }

    /// The failures of something that goes on after a failure; success if there are none.
    pub fn all(mut errors: Vec<Self>) -> Result<()> {
        match errors.len() {
            0 => Ok(()),
            1 => errors.pop().map_or(Ok(()), Err),
            _ => Err(Self::Many(errors)),
        }
    }

    /// The failure's kind; that of the first of several.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Malformed { .. } => Kind::Invalid,
            Self::Network(error) => error.kind(),
            Self::Container(error) => error.kind(),
            Self::Publication(error) => error.kind(),
            Self::Host(error) => error.kind(),
            Self::State(error) => error.kind(),
            Self::System { .. } => Kind::System,
            Self::InFile { error, .. } => error.kind(),
            Self::Many(errors) => errors.first().map_or(Kind::System, Self::kind),
        }
    }

    /// The sentence and its causes on one line, joined by colons.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            let next = error.to_string();
            // Some libraries repeat their source's text in their own.
            if !text.ends_with(&next) {
                text.push_str(": ");
                text.push_str(&next);
            }
            cause = error.source();
        }
        text
    }
}

/// Says what was being tried when a foreign error came back.
pub trait Doing<T> {
    /// `what` is an operation and its object: "create bridge netd0".
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<Box<dyn std::error::Error + Send + Sync>>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::system(what(), error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_failures_are_reported_in_order() {
        let refused = |what: &str| Error::system(what, std::io::Error::other("no"));
        assert!(Error::all(Vec::new()).is_ok());
        assert_eq!(Error::all(vec![refused("one")]).unwrap_err().chain(), "cannot one: no");
        let both = Error::all(vec![refused("one"), refused("two")]).unwrap_err();
        assert_eq!((both.chain().as_str(), both.kind()), ("cannot one: no; cannot two: no", Kind::System));
    }
}
