//! The parameters of a call, which are in the environment.

use super::failure::{Code, Failure};

/// A parameter.
pub(super) fn variable(name: &str) -> Result<String, Failure> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    value.ok_or_else(|| Failure::new(Code::Environment, format!("{name} is not set")))
}
