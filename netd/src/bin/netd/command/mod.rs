//! Carries out each command of the command line: this file dispatches, the others do the work.

mod change;
mod container;
mod flows;
mod instance;
mod log;
mod network;
mod publish;
mod run;
mod shell;

use std::path::Path;

use netd::{Doing as _, Error, Netns, Result, Settings, TcHook};

use crate::cli::{Cli, Command, ContainerCommand, HostCommand};
use crate::output::Output;

/// How TC programs are attached: as the kernel allows. `NETD_TC=clsact` asks for what older kernels have, to test it.
fn tc_hook() -> TcHook {
    if std::env::var_os("NETD_TC").is_some_and(|tc| tc == "clsact") {
        TcHook::Clsact
    } else {
        TcHook::of_kernel()
    }
}

/// Carries out a command; returns the exit status.
pub(crate) fn execute(cli: Cli) -> Result<u8> {
    let command = match cli.command {
        Command::Host(command) => command,
        Command::Completions { shell } => return shell::completions(shell).map(|()| 0),
        Command::Man => return shell::manual().map(|()| 0),
    };
    // The host is the network namespace that netd was started in.
    let host = Netns::open(Path::new("/proc/self/ns/net"))?;
    let settings = Settings {
        host,
        state_dir: cli.state_dir,
        uplinks: cli.uplink,
        max_connections: cli.max_connections,
        xdp: cli.xdp,
        tc: tc_hook(),
    };
    // One thread: the namespace that netd is in, and the parent that a run dies with, belong to a thread.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing(|| "start the runtime".into())?;
    runtime.block_on(dispatch(&settings, Output::new(cli.json), command))
}

async fn dispatch(settings: &Settings, output: Output, command: HostCommand) -> Result<u8> {
    if command.only_shows() && (settings.xdp.is_some() || !settings.uplinks.is_empty()) {
        // Only commands that change something apply settings, and here they were asked for.
        instance::sync(settings).await?;
    }
    match command {
        HostCommand::Network(command) => network::execute(settings, output, command).await?,
        HostCommand::Container(ContainerCommand::Exec { name, command }) => {
            return or_status(container::exec(settings, &name, &command), output);
        }
        HostCommand::Container(command) => container::execute(settings, output, command).await?,
        HostCommand::Run(run) => return run::launch(settings, output, run).await,
        HostCommand::Supervise(run) => return run::supervise(settings, output, run).await,
        HostCommand::Become(request) => return or_status(run::become_command(&request), output),
        HostCommand::Publish(request) => publish::publish(settings, output, request).await?,
        HostCommand::Unpublish(request) => publish::unpublish(settings, output, request).await?,
        HostCommand::Access { lists, open } => publish::access(settings, output, &lists, open).await?,
        HostCommand::Ports { container } => publish::ports(settings, output, container.as_ref())?,
        HostCommand::Flows { container, proto, port } => {
            flows::flows(settings, output, container.as_ref(), proto, port)?;
        }
        HostCommand::Timeouts { changes, reset } => {
            flows::timeouts(settings, output, &changes, reset).await?;
        }
        HostCommand::Quota { quota } => flows::quota(settings, output, quota).await?,
        HostCommand::Status => instance::status(settings, output).await?,
        HostCommand::Sync => instance::sync(settings).await?,
        HostCommand::Log { follow } => log::execute(settings, output, follow)?,
        HostCommand::Down { all } => instance::down(settings, output, all).await?,
    }
    Ok(0)
}

/// Prints why a command could not be started, and returns the exit status that shells give it.
fn or_status(error: Error, output: Output) -> Result<u8> {
    let Some(status) = run::status_of(&error) else { return Err(error) };
    let hint =
        if status == run::NOT_FOUND { "is it installed, and in PATH?" } else { "is it an executable file?" };
    output.fail_hinting(&error, Some(hint));
    Ok(status)
}
