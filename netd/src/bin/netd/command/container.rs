//! Carries out `netd container`.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process;

use netd::report::{Removed, RunStatus};
use netd::{
    ContainerError, ContainerRequest, Error, InterfaceRequest, Name, NetworkMode, Result, Session, Settings,
};

use super::change::{change, take_away};
use crate::cli::{AttachOptions, ContainerAdd, ContainerCommand};
use crate::output::{AllContainers, Output, Published, Text as _};

/// The interface of a container that is attached to one network.
const INTERFACE: &str = "eth0";

pub(super) async fn execute(settings: &Settings, output: Output, command: ContainerCommand) -> Result<()> {
    match command {
        ContainerCommand::Add(typed) => {
            let ContainerAdd { name, key, network, adopt, netns, pid, attach } = *typed;
            let of_process = pid.map(namespace_of).transpose()?;
            let network = NetworkMode::of(&network, |network| {
                Ok(InterfaceRequest { adopt, ..interface(network, &attach)? })
            });
            let request = ContainerRequest {
                name,
                key,
                sandbox: netns.or(of_process),
                network: checked(network?, &attach)?,
                ports: attach.publish,
                policy: super::publish::policy(attach.terms)?,
                run: None,
            };
            let (name, session) = change(settings, async |host| host.add_container(request).await).await?;
            let container = session.report_container(&name).await?;
            output.print_or(&container, || format!("{name}\n{}", Published(container.ports.clone()).text()))
        }
        ContainerCommand::Ls { all: false } => {
            output.print(&Session::open(settings)?.report_containers().await?)
        }
        ContainerCommand::Ls { all: true } => {
            let mut ended = Session::runs(settings)?.list()?;
            ended.retain(|one| one.run.status == RunStatus::Ended);
            output.print(&AllContainers {
                containers: Session::open(settings)?.report_containers().await?,
                ended,
            })
        }
        ContainerCommand::Inspect { name } => inspect(settings, output, &name).await,
        ContainerCommand::Rm { names } => {
            take_away(settings, async |host| host.remove_containers(&names).await).await?;
            output.print(&Removed { removed: names.iter().map(ToString::to_string).collect() })
        }
        // `exec` below, since this process becomes another program.
        ContainerCommand::Exec { .. } => Ok(()),
    }
}

/// Shows a container, or what is kept of a run whose container is gone.
async fn inspect(settings: &Settings, output: Output, name: &Name) -> Result<()> {
    match Session::open(settings)?.report_container(name).await {
        Err(Error::Container(error @ ContainerError::NotFound { .. })) => {
            match Session::runs(settings)?.find(name)? {
                Some(run) => output.print(&run),
                None => Err(error.into()),
            }
        }
        container => output.print(&container?),
    }
}

/// The network namespace of a process.
fn namespace_of(pid: i32) -> Result<PathBuf> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    if !process.exists() {
        return Err(ContainerError::NoProcess { pid }.into());
    }
    Ok(process.join("ns/net"))
}

/// The interface that these options ask for.
pub(super) fn interface(network: Name, attach: &AttachOptions) -> Result<InterfaceRequest> {
    let interface = InterfaceRequest::new(INTERFACE.parse()?, network);
    let allowed = attach.allowed_address.clone();
    Ok(InterfaceRequest { addresses: attach.ip.clone(), mac: attach.mac, allowed, ..interface })
}

/// Refuses addresses for networks that have no interface.
pub(super) fn checked(network: NetworkMode, attach: &AttachOptions) -> Result<NetworkMode> {
    let name = match network {
        NetworkMode::Interfaces(_) => return Ok(network),
        NetworkMode::Host => "host",
        NetworkMode::None => "none",
    };
    if attach.ip.is_empty() && attach.mac.is_none() && attach.allowed_address.is_empty() {
        return Ok(network);
    }
    Err(ContainerError::NoInterface { network: name.to_owned() }.into())
}

/// Becomes the command, in the container's namespace. Returns only if that fails.
pub(super) fn exec(settings: &Settings, name: &Name, command: &[OsString]) -> Error {
    match enter(settings, name) {
        Ok(()) => replace_self(command),
        Err(error) => error,
    }
}

fn enter(settings: &Settings, name: &Name) -> Result<()> {
    match Session::open(settings)?.namespace(name)? {
        Some(namespace) => namespace.enter(),
        None => Ok(()),
    }
}

/// Becomes another program. Returns only if that fails.
pub(super) fn replace_self(command: &[OsString]) -> Error {
    let Some((program, arguments)) = command.split_first() else {
        return Error::malformed("there is no command to run");
    };
    let error = process::Command::new(program).args(arguments).exec();
    Error::system(format!("run {}", program.display()), error)
}
