//! Failures in the words of CNI.

use netd::{Error, Kind};
use serde_json::{Value, json};

use crate::hints;

/// What a failure is (the specification's section "Error"; from 100 on the plugin's own).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Code {
    /// The configuration has a version that is not spoken.
    Version = 1,
    /// The configuration asks for what the plugin does not do.
    Unsupported = 2,
    /// The container is not known.
    UnknownContainer = 3,
    /// A parameter in the environment is missing or wrong.
    Environment = 4,
    /// Reading failed.
    Io = 5,
    /// The configuration is no JSON of the right form.
    Decode = 6,
    /// The configuration makes no sense.
    Config = 7,
    /// The plugin cannot work now.
    NotAvailable = 50,
    /// The engine failed.
    Engine = 101,
    /// A port is in use.
    Conflict = 102,
}

/// A failure.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    code: Code,
    message: String,
    details: String,
}

impl Failure {
    /// A failure of the call itself.
    pub(super) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: String::new() }
    }

    /// What the plugin does not do, and why.
    pub(super) fn unsupported(message: impl Into<String>, why: &str) -> Self {
        Self { code: Code::Unsupported, message: message.into(), details: why.to_owned() }
    }

    /// As the specification wants it.
    pub(super) fn to_json(&self, version: &str) -> Value {
        json!({ "cniVersion": version, "code": self.code as u32, "msg": self.message, "details": self.details })
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let code = match error.kind() {
            Kind::Conflict => Code::Conflict,
            Kind::Invalid => Code::Config,
            _ => Code::Engine,
        };
        let details = hints::hint(&error).unwrap_or_default();
        Self { code, message: format!("netd: {}", error.chain()), details }
    }
}
