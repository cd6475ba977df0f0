//! Front ends: netd called by other programs, in their protocols. They call the engine's door only.

mod cni;

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

use tracing_subscriber::filter::LevelFilter;

use crate::output;

/// Acts as the program that netd is called as; none if that is netd itself.
pub(crate) fn act(program: &OsStr) -> Option<ExitCode> {
    let name = Path::new(program).file_name()?.to_str()?;
    if !matches!(name, "portmap" | "netd-portmap") {
        return None;
    }
    output::log(LevelFilter::WARN);
    Some(cni::portmap())
}
