//! What went wrong: what was tried, on what, why it failed, and what to do about it.

use std::fmt;

/// What kind of failure it is: the `kind` of the JSON error object, for programs to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The words of a request make no sense (a malformed port, CIDR, name …).
    Invalid,
    /// The network, container or publication named does not exist.
    NotFound,
    /// It exists already, or what it wants is taken by somebody.
    Conflict,
    /// netd needs to be root, or lacks a capability.
    Permission,
    /// This kernel or machine lacks something netd needs.
    Unsupported,
    /// The kernel, a file or another program refused.
    System,
}

/// A failure on its way to the user: one sentence, the chain of causes below it, and a hint.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    message: String,
    hint: Option<String>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// `Result` with netd's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of `kind`; `message` is lower case, without a full stop, and names the thing it is about.
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, source: None }
    }

    /// A request whose words make no sense.
    pub fn invalid(message: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// A name that nothing has.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// Something that is there already or taken.
    pub fn conflict(message: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, message)
    }

    /// Something this machine lacks.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// A refusal by the kernel or the file system; `message` says what was tried on what ("create bridge netd0").
    pub fn system(
        message: impl Into<String>,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { kind: Kind::System, message: message.into(), hint: None, source: Some(source.into()) }
    }

    /// Adds what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Many failures as one, in order; used by teardown, which goes on and reports everything. `None` for none.
    pub fn many(errors: Vec<Self>) -> Option<Self> {
        let mut errors = errors.into_iter();
        let mut first = errors.next()?;
        for next in errors {
            first.message = format!("{}; {}", first.chain(), next.chain());
            first.source = None;
        }
        Some(first)
    }

    /// The failure's kind.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The hint, if there is one.
    pub fn hint_text(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The message and its causes on one line, joined by colons.
    pub fn chain(&self) -> String {
        let mut text = self.message.clone();
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
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
