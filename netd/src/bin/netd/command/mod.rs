//! Carries out each command of the command line: this file dispatches, the others do the work.

mod container;
mod finish;
mod log;
mod network;
mod publish;
mod run;
mod shell;

use std::path::Path;

use crate::cli::{Cli, Command, ContainerCommand};
use crate::output::Output;
use netd::report::{Removed, RemovedItem};
use netd::{Doing as _, Error, Netns, Result, Session, Settings, TcHook, Transaction};

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
    // The namespace that the command is run in is the host.
    let host = Netns::open(Path::new("/proc/self/ns/net"))?;
    let settings = Settings {
        host,
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
                return or_status(container::exec(&settings, &name, &command), output);
            }
            Command::Container(command) => container::execute(&settings, output, command).await?,
            Command::Run(run) => return run::launch(&settings, output, run).await,
            Command::Supervise(run) => return run::supervise(&settings, run).await,
            Command::Become(request) => return or_status(run::become_command(&request), output),
            Command::Publish(request) => publish::publish(&settings, output, request).await?,
            Command::Unpublish(request) => publish::unpublish(&settings, output, request).await?,
            Command::Access { lists, open } => publish::access(&settings, output, &lists, open).await?,
            Command::Ports { container } => publish::ports(&settings, output, container)?,
            Command::Flows { container, proto, port } => {
                let flows = Session::open(&settings)?.report_flows(container.as_ref(), proto, port)?;
                output.print(&flows)?;
            }
            Command::Timeouts { changes, reset } => {
                let session = if changes.is_empty() && !reset {
                    Session::open(&settings)?
                } else {
                    let mut transaction = Transaction::open(&settings).await?;
                    let outcome = transaction.change_timeouts(&changes, reset);
                    finish::finish(transaction, outcome)?.1
                };
                output.print(&session.report_timeouts())?;
            }
            Command::Status => {
                output.print(&Session::open(&settings)?.report_status().await?)?;
            }
            Command::Log { follow } => log::execute(&settings, output, follow)?,
            Command::Down { all } => {
                let mut removed = Transaction::down(&settings).await?;
                if all {
                    removed.extend(netd::remove_gone(&settings.state_dir)?);
                }
                output.print(&Removed { removed: removed.iter().filter_map(removed_item).collect() })?;
            }
            // They have been carried out above.
            Command::Completions { .. } | Command::Man => {}
        }
        Ok(0)
    })
}

/// What was removed, in words.
fn removed_item(item: &RemovedItem) -> Option<String> {
    match item {
        RemovedItem::Container { name } => Some(format!("container {name}")),
        RemovedItem::Network { name } => Some(format!("network {name}")),
        RemovedItem::Programs => Some("BPF programs and tables".to_owned()),
        RemovedItem::Instance { cookie } => Some(format!("what was left of namespace {cookie}")),
        _ => None,
    }
}

/// Prints why a command could not be started, and returns the exit status that shells give it.
fn or_status(error: Error, output: Output) -> Result<u8> {
    let Some(status) = run::status_of(&error) else { return Err(error) };
    let hint =
        if status == run::NOT_FOUND { "is it installed, and in PATH?" } else { "is it an executable file?" };
    output.fail_hinting(&error, Some(hint));
    Ok(status)
}
