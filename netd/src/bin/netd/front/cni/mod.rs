//! CNI: the plugin `portmap`, by the specification's versions 0.3.0 to 1.1.0.
//!
//! A runtime calls a plugin with parameters in the environment and a network configuration on standard input. The plugin answers
//! with JSON on standard output, also of a failure.

mod conditions;
mod config;
mod environment;
mod failure;
mod portmap;

use std::io::Read as _;
use std::process::ExitCode;

use serde_json::{Value, json};

use self::config::{Config, VERSIONS};
use self::environment::variable;
use self::failure::{Code, Failure};
use crate::output;

/// Acts as the plugin `portmap`.
pub(super) fn portmap() -> ExitCode {
    let mut text = Vec::new();
    let read = std::io::stdin().read_to_end(&mut text);
    let read = read.map_err(|error| Failure::new(Code::Io, format!("cannot read standard input: {error}")));
    let outcome = read.and_then(|_len| answer(&text));
    let (answer, status) = match outcome {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (Some(failure.to_json(&version_in(&text))), ExitCode::FAILURE),
    };
    let text = answer.map(|answer| format!("{answer:#}\n")).unwrap_or_default();
    if output::raw(&text).is_err() {
        return ExitCode::FAILURE;
    }
    status
}

/// The answer to a call; none if there is nothing to say.
fn answer(text: &[u8]) -> Result<Option<Value>, Failure> {
    match variable("CNI_COMMAND")?.as_str() {
        "VERSION" => Ok(Some(json!({ "cniVersion": version_in(text), "supportedVersions": VERSIONS }))),
        "ADD" => portmap::add(&Config::parse(text)?).map(Some),
        "DEL" => portmap::del(&Config::parse(text)?).map(|()| None),
        "CHECK" => portmap::check(&Config::parse(text)?).map(|()| None),
        "GC" => portmap::collect(&Config::parse(text)?).map(|()| None),
        "STATUS" => portmap::status().map(|()| None),
        other => {
            Err(Failure::new(Code::Environment, format!("CNI_COMMAND is '{other}', which is no command")))
        }
    }
}

/// The version that a configuration asks for; the newest if it cannot be told.
fn version_in(text: &[u8]) -> String {
    let config: Option<Value> = serde_json::from_slice(text).ok();
    let version = config.as_ref().and_then(|config| config.get("cniVersion")?.as_str());
    let newest = VERSIONS.last().copied().unwrap_or_default();
    version.filter(|version| VERSIONS.contains(version)).unwrap_or(newest).to_owned()
}
