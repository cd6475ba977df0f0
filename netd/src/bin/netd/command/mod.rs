//! Carries out each command of the command line: this file dispatches, the others do the work.

mod apply;
mod change;
mod container;
mod flows;
mod instance;
mod log;
mod logs;
mod network;
mod publish;
mod run;
mod serve;
mod setting;
mod shell;

use std::path::{Path, PathBuf};

use netd::{Doing as _, Error, Netns, Result, Settings, TcHook};

use clap::Parser as _;
use nix::unistd::{getpid, getppid};

pub(crate) use self::change::{change, take_away};

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

/// Whether this process is in a mount namespace that one of its ancestors is not in, and that ends before that one: as under
/// `ip netns exec`. Ancestors that cannot be asked do not count.
fn has_private_mounts() -> bool {
    let mounts_of = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
    let parent_of = |pid: i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name before it may have parentheses of its own (proc(5)).
        stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse::<i32>().ok()
    };
    let Some(own) = mounts_of(getpid().as_raw()) else { return false };
    let ancestors = std::iter::successors(Some(getppid().as_raw()), |pid| parent_of(*pid));
    ancestors.take_while(|pid| *pid > 0).filter_map(mounts_of).any(|mounts| mounts != own)
}

/// The settings of an instance, whose host is the network namespace that netd was started in.
fn settings(state_dir: PathBuf, log_dir: PathBuf) -> Result<Settings> {
    let host = Netns::open(Path::new("/proc/self/ns/net"))?;
    Ok(Settings { host, state_dir, log_dir, tc: tc_hook(), private_mounts: has_private_mounts() })
}

/// The frame of every call: a command, or a front end's, which gets its settings from the environment.
pub(crate) struct Caller {
    /// The instance.
    pub(crate) settings: Settings,
    /// Whether the follower is started if there is something to follow.
    serves: bool,
}

impl Caller {
    /// For a front end: reads the settings.
    pub(crate) fn new() -> Result<Self> {
        // Of the words of a command line only the variables in their place are of interest.
        let cli =
            Cli::try_parse_from(["netd", "status"]).map_err(|error| Error::malformed(error.to_string()))?;
        Ok(Self { settings: settings(cli.state_dir, cli.log_dir)?, serves: !cli.no_serve })
    }

    /// Carries out a request, and starts the follower.
    pub(crate) fn run<T>(&self, request: impl AsyncFnOnce(&Settings) -> Result<T>) -> Result<T> {
        // One thread: the namespace that netd is in, and the parent that a run dies with, belong to a thread.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.doing(|| "start the runtime".into())?;
        let answer = runtime.block_on(request(&self.settings))?;
        if self.serves
            && let Err(error) = runtime.block_on(serve::ensure(&self.settings))
        {
            tracing::warn!("{}", error.chain());
        }
        Ok(answer)
    }
}

/// Carries out a command; returns the exit status.
pub(crate) fn execute(cli: Cli) -> Result<u8> {
    let command = match cli.command {
        Command::Host(command) => command,
        Command::Completions { shell } => return shell::completions(shell).map(|()| 0),
        Command::Schema => return shell::schema().map(|()| 0),
        Command::Man { dir } => return shell::manual(dir.as_deref()).map(|()| 0),
    };
    let Cli { state_dir, log_dir, json, no_serve, .. } = cli;
    let serves = !no_serve && command.may_leave_work();
    let caller = Caller { settings: settings(state_dir, log_dir)?, serves };
    caller.run(async |settings| dispatch(settings, Output::new(json), command, !no_serve).await)
}

async fn dispatch(settings: &Settings, output: Output, command: HostCommand, serves: bool) -> Result<u8> {
    match command {
        HostCommand::Network(command) => network::execute(settings, output, command).await?,
        HostCommand::Container(ContainerCommand::Exec { name, command }) => {
            return or_status(container::exec(settings, &name, &command), output);
        }
        HostCommand::Container(command) => container::execute(settings, output, command).await?,
        HostCommand::Run(run) => return run::launch(settings, output, run, serves).await,
        HostCommand::Logs(request) => logs::execute(settings, output, &request)?,
        HostCommand::Supervise(run) => return run::supervise(settings, output, run, serves).await,
        HostCommand::Become(request) => return or_status(run::become_command(&request), output),
        HostCommand::Publish(request) => publish::publish(settings, output, request).await?,
        HostCommand::Unpublish(request) => publish::unpublish(settings, output, request).await?,
        HostCommand::Access { lists, open } => publish::access(settings, output, &lists, open).await?,
        HostCommand::Ports { container, active } => {
            publish::ports(settings, output, container.as_ref(), active)?;
        }
        HostCommand::Flows { container, proto, port } => {
            flows::flows(settings, output, container.as_ref(), proto, port)?;
        }
        HostCommand::Timeouts { changes, reset } => {
            flows::timeouts(settings, output, &changes, reset).await?;
        }
        HostCommand::Quota { quota } => flows::quota(settings, output, quota).await?,
        HostCommand::Apply(request) => return apply::apply(settings, output, request).await,
        HostCommand::Save { file } => apply::save(settings, output, file.as_deref()).await?,
        HostCommand::Set { changes } => setting::set(settings, output, &changes).await?,
        HostCommand::Get { name } => setting::get(settings, output, name)?,
        HostCommand::Metrics => instance::metrics(settings, output)?,
        HostCommand::Status => instance::status(settings, output).await?,
        HostCommand::Sync => instance::sync(settings).await?,
        HostCommand::Upgrade => instance::upgrade(settings, output).await?,
        HostCommand::Check => return instance::check(settings, output).await,
        HostCommand::Repair => return instance::repair(settings, output).await,
        HostCommand::Serve { background } => serve::serve(settings, background).await?,
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
