//! `netd container`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process;

use crate::cli::{ContainerAdd, ContainerCommand};
use crate::output::{Output, Published, Text as _};
use netd::engine::{ContainerRequest, Host, Settings};
use netd::error::{Doing as _, Error, Result};
use netd::report::Removed;
use netd::spec::Name;

pub(super) async fn execute(settings: &Settings, output: Output, command: ContainerCommand) -> Result<()> {
    let mut host = Host::open(settings).await?;
    let outcome = carry_out(&mut host, output, command).await;
    let closed = host.close();
    outcome.and(closed)
}

async fn carry_out(host: &mut Host, output: Output, command: ContainerCommand) -> Result<()> {
    match command {
        ContainerCommand::Add(typed) => {
            let ContainerAdd { name, network, netns, pid, attach } = typed;
            let terms = super::publish::terms(attach.terms)?;
            let sandbox = sandbox(netns, pid)?;
            let name = host
                .add_container(ContainerRequest {
                    name,
                    network,
                    sandbox,
                    addresses: attach.ip,
                    mac: attach.mac,
                    ports: attach.publish,
                    terms,
                    owner: None,
                })
                .await?;
            let container = host.report_container(&name).await?;
            output.print_or(&container, || format!("{name}\n{}", Published(container.ports.clone()).text()))
        }
        ContainerCommand::Ls => output.print(&host.report_containers().await?),
        ContainerCommand::Inspect { name } => output.print(&host.report_container(&name).await?),
        ContainerCommand::Rm { names } => {
            host.remove_containers(&names).await?;
            output.print(&Removed { removed: names.iter().map(ToString::to_string).collect() })
        }
        // It becomes another program, which `command` sees to.
        ContainerCommand::Exec { .. } => Ok(()),
    }
}

/// The path of the namespace that the words name. It is absolute, since later commands run in other folders.
fn sandbox(netns: Option<PathBuf>, pid: Option<i32>) -> Result<Option<PathBuf>> {
    let path = netns.or_else(|| pid.map(|pid| PathBuf::from(format!("/proc/{pid}/ns/net"))));
    path.map(std::path::absolute).transpose().doing(|| "find the current folder".into())
}

/// Becomes the command, inside; returns only if that fails.
pub(super) async fn exec(settings: &Settings, name: &Name, command: &[OsString]) -> Error {
    match enter(settings, name).await {
        Ok(()) => replace_self(command),
        Err(error) => error,
    }
}

async fn enter(settings: &Settings, name: &Name) -> Result<()> {
    let host = Host::open(settings).await?;
    let sandbox = host.sandbox(name);
    host.close()?;
    match sandbox? {
        Some(sandbox) => sandbox.enter(),
        None => Ok(()),
    }
}

/// Becomes another program; returns only if that fails.
pub(super) fn replace_self(command: &[OsString]) -> Error {
    let Some((program, arguments)) = command.split_first() else {
        return Error::invalid("there is no command to run");
    };
    let error = process::Command::new(program).args(arguments).exec();
    let hint = match error.kind() {
        std::io::ErrorKind::NotFound => "is it installed, and in PATH?",
        _ => "is it an executable file?",
    };
    Error::system(format!("run {}", program.display()), error).hint(hint)
}
