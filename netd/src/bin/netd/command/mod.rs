//! Carries out each command of the command line: this file dispatches, the others do the work.

mod container;
mod log;
mod network;
mod publish;
mod run;
mod shell;

use std::path::Path;

use crate::cli::{Cli, Command, ContainerCommand};
use crate::output::Output;
use netd::dataplane::TcHook;
use netd::engine::{self, Host, Settings};
use netd::error::{Doing as _, Error, Result};
use netd::netns::Netns;
use netd::report::Removed;

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
    // These need neither a host nor privileges.
    match cli.command {
        Command::Completions { shell } => return shell::completions(shell).map(|()| 0),
        Command::Man => return shell::manual().map(|()| 0),
        _ => {}
    }
    let settings = Settings {
        host: Netns::open(Path::new("/proc/self/ns/net"))?,
        state_dir: cli.state_dir,
        uplinks: cli.uplink,
        max_connections: cli.max_connections,
        xdp: cli.xdp,
        tc: tc_hook(),
    };
    let output = Output::new(cli.json);
    // One thread: the namespace that netd is in, and the parent that a run dies with, are a thread's.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .doing(|| "start the runtime".into())?;
    let command = cli.command;
    runtime.block_on(async move {
        match command {
            Command::Network(command) => network::execute(&settings, output, command).await?,
            Command::Container(ContainerCommand::Exec { name, command }) => {
                return or_status(container::exec(&settings, &name, &command).await, output);
            }
            Command::Container(command) => container::execute(&settings, output, command).await?,
            Command::Run(run) => return run::launch(&settings, output, run).await,
            Command::Supervise(run) => return run::supervise(&settings, run).await,
            Command::Become(request) => return or_status(run::become_command(&request), output),
            Command::Publish(request) => publish::publish(&settings, output, request).await?,
            Command::Unpublish(request) => publish::unpublish(&settings, output, request).await?,
            Command::Access { lists, open } => publish::access(&settings, output, &lists, open).await?,
            Command::Ports { container } => publish::ports(&settings, output, container).await?,
            Command::Flows { container, proto, port } => {
                let host = Host::open(&settings).await?;
                let flows = host.report_flows(container.as_ref(), proto, port);
                host.close()?;
                output.print(&flows?)?;
            }
            Command::Timeouts { changes, reset } => {
                let mut host = Host::open(&settings).await?;
                let outcome = host.change_timeouts(&changes, reset);
                let outcome = outcome.and_then(|()| output.print(&host.report_timeouts()));
                let closed = host.close();
                outcome.and(closed)?;
            }
            Command::Status => {
                let host = Host::open(&settings).await?;
                output.print(&host.report_status().await?)?;
                host.close()?;
            }
            Command::Log { follow } => log::execute(&settings, output, follow).await?,
            Command::Down { all } => {
                let mut removed = Host::open_to_remove(&settings)?.down().await?;
                if all {
                    removed.extend(engine::remove_gone(&settings.state_dir)?);
                }
                output.print(&Removed { removed })?;
            }
            // They have been carried out above.
            Command::Completions { .. } | Command::Man => {}
        }
        Ok(0)
    })
}

/// A command that could not be started: told, and then the exit status that shells give it.
fn or_status(error: Error, output: Output) -> Result<u8> {
    match run::status_of(&error) {
        Some(status) => {
            output.fail_with(&error);
            Ok(status)
        }
        None => Err(error),
    }
}
