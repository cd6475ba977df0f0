//! Runs a command under a tracer that knows each step by which it changes something outside of itself, and that ends it before
//! one of them or lets that step fail. So each step is a fail point, and none can be forgotten.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::process::{Command, Stdio};
use std::thread;

use aya_obj::generated::bpf_cmd;
use libc::{c_long, ptrace_syscall_info};
use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What happens to a command at one of its steps. The first is number 0.
#[derive(Clone, Copy, Debug)]
pub enum Fate {
    /// It runs to its end.
    Ends,
    /// It is killed before this step.
    Dies(usize),
    /// This step is not done, and fails with this error; the kernel refuses a netlink message as one that it does not know.
    Fails(usize, Errno),
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Traced {
    /// Its steps in words; the last one of a killed command was not done.
    pub steps: Vec<String>,
    /// Its exit code; none if it was killed.
    pub code: Option<i32>,
    /// What it printed to standard error.
    pub stderr: String,
}

impl Traced {
    /// The step before which it was killed, or which failed.
    pub fn at(&self, fate: Fate) -> Option<&str> {
        match fate {
            Fate::Ends => None,
            Fate::Dies(number) | Fate::Fails(number, _) => self.steps.get(number).map(String::as_str),
        }
    }
}

/// Runs a command and all that it starts under a tracer.
#[track_caller]
pub fn run(command: &Command, fate: Fate) -> Traced {
    // A thread of its own, since a tracer waits for all its children, and only it may trace them.
    thread::scope(|scope| match scope.spawn(|| traced(command, fate)).join() {
        Ok(traced) => traced,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

#[expect(clippy::zombie_processes, reason = "the tracer waits for it")]
fn traced(command: &Command, fate: Fate) -> Traced {
    let mut stderr = tempfile::tempfile().expect("a file for what it prints");
    // The shell stops until it is traced.
    let mut started = Command::new("sh");
    started
        .args(["-c", "kill -STOP $$; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr.try_clone().expect("a second handle"));
    let child = started.spawn().expect("sh starts");
    let root = Pid::from_raw(i32::try_from(child.id()).expect("a process number fits"));
    waitpid(root, Some(WaitPidFlag::WUNTRACED)).expect("wait for the shell to stop");
    let options = Options::PTRACE_O_TRACESYSGOOD
        | Options::PTRACE_O_TRACECLONE
        | Options::PTRACE_O_TRACEFORK
        | Options::PTRACE_O_TRACEVFORK
        | Options::PTRACE_O_TRACEEXEC
        | Options::PTRACE_O_EXITKILL;
    ptrace::seize(root, options).expect("trace the shell");
    kill(root, Signal::SIGCONT).expect("let the shell go on");
    let mut tracer = Tracer { fate, steps: Vec::new(), failing: HashMap::new() };
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == root => code = Some(status),
            Ok(WaitStatus::PtraceSyscall(pid)) => {
                tracer.syscall(pid);
                go_on(pid, None);
            }
            Ok(WaitStatus::PtraceEvent(pid, ..)) => go_on(pid, None),
            Ok(WaitStatus::Stopped(pid, signal)) => go_on(pid, Some(signal)),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => break,
            Err(error) => panic!("wait for a traced process: {error}"),
        }
    }
    stderr.rewind().expect("rewind");
    let mut said = String::new();
    stderr.read_to_string(&mut said).expect("read what it printed");
    Traced { steps: tracer.steps, code, stderr: said }
}

/// Lets a process go on to its next system call. It may be gone by now.
fn go_on(pid: Pid, signal: Option<Signal>) {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => panic!("let {pid} go on: {error}"),
    }
}

/// What the tracer knows.
struct Tracer {
    fate: Fate,
    steps: Vec<String>,
    /// The threads that are in a call that fails.
    failing: HashMap<Pid, Errno>,
}

impl Tracer {
    /// A thread enters or leaves a system call.
    fn syscall(&mut self, pid: Pid) {
        // The process may be killed at any time by its own.
        let Ok(ptrace_syscall_info { op, .. }) = ptrace::syscall_info(pid) else { return };
        if op == libc::PTRACE_SYSCALL_INFO_EXIT {
            if let Some(errno) = self.failing.remove(&pid) {
                let mut registers = ptrace::getregs(pid).expect("read the registers");
                registers.rax = i64::from(-(errno as i32)).cast_unsigned();
                ptrace::setregs(pid, registers).expect("let the call fail");
            }
            return;
        }
        let Some((call, step)) = Call::of(pid).and_then(|call| call.step().map(|step| (call, step))) else {
            return;
        };
        let number = self.steps.len();
        self.steps.push(step);
        match self.fate {
            Fate::Dies(at) if at == number => kill(pid, Signal::SIGKILL).expect("kill a traced process"),
            Fate::Fails(at, _) if at == number && call.refuse_netlink() => {}
            Fate::Fails(at, errno) if at == number => {
                let mut registers = ptrace::getregs(pid).expect("read the registers");
                // No call has this number: nothing is done.
                registers.orig_rax = u64::MAX;
                ptrace::setregs(pid, registers).expect("take the call away");
                self.failing.insert(pid, errno);
            }
            _ => {}
        }
    }
}

/// A system call that begins.
struct Call {
    pid: Pid,
    number: c_long,
    args: [u64; 6],
}

/// rtnetlink's first message type; from there on every third of four only asks.
const RTM_BASE: u16 = 16;
/// A message type of nobody (`rtnetlink_rcv_msg`).
const UNKNOWN: u16 = 0xfff;

impl Call {
    fn of(pid: Pid) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/syscall")).ok()?;
        let mut words = text.split_ascii_whitespace();
        let number = words.next()?.parse().ok()?;
        let mut args = [0; 6];
        for arg in &mut args {
            *arg = u64::from_str_radix(words.next()?.strip_prefix("0x")?, 16).ok()?;
        }
        Some(Self { pid, number, args })
    }

    /// In words, if it may change something outside of its process.
    fn step(&self) -> Option<String> {
        let Self { number, args, .. } = self;
        Some(match *number {
            libc::SYS_bpf => format!("bpf {}", changing_command(args[0])?),
            libc::SYS_sendto | libc::SYS_sendmsg => format!("netlink {}", self.netlink()?.1),
            libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_ftruncate => {
                format!("write {}", self.file(args[0])?)
            }
            libc::SYS_openat if args[2] & u64::from((libc::O_CREAT | libc::O_TRUNC).cast_unsigned()) != 0 => {
                format!("open {}", self.text(args[1]))
            }
            libc::SYS_rename => format!("rename {}", self.text(args[0])),
            libc::SYS_renameat | libc::SYS_renameat2 => format!("rename {}", self.text(args[1])),
            libc::SYS_unlink | libc::SYS_rmdir => format!("remove {}", self.text(args[0])),
            libc::SYS_unlinkat => format!("remove {}", self.text(args[1])),
            libc::SYS_mkdir => format!("make {}", self.text(args[0])),
            libc::SYS_mkdirat => format!("make {}", self.text(args[1])),
            libc::SYS_chmod | libc::SYS_chown => format!("set rights of {}", self.text(args[0])),
            libc::SYS_fchmodat => format!("set rights of {}", self.text(args[1])),
            libc::SYS_fchmod | libc::SYS_fchown => format!("set rights of {}", self.file(args[0])?),
            libc::SYS_linkat => format!("link {}", self.text(args[1])),
            libc::SYS_symlinkat => format!("link {}", self.text(args[2])),
            libc::SYS_mount => format!("mount {}", self.text(args[1])),
            libc::SYS_umount2 => format!("unmount {}", self.text(args[0])),
            libc::SYS_kill | libc::SYS_pidfd_send_signal => "signal".to_owned(),
            _ => return None,
        })
    }

    /// Where the type of a netlink message is, and which it is, unless it only asks.
    fn netlink(&self) -> Option<(u64, u16)> {
        let [at, len] = match self.number {
            libc::SYS_sendto => [self.args[1], self.args[2]],
            libc::SYS_sendmsg => {
                let [vector, _count] = self.words(self.args[1] + 16)?;
                self.words(vector)?
            }
            _ => return None,
        };
        let header: [u8; 16] = self.bytes(at)?;
        let [l0, l1, l2, l3, t0, t1, ..] = header;
        let (said, kind) = (u32::from_le_bytes([l0, l1, l2, l3]), u16::from_le_bytes([t0, t1]));
        // Other families use rtnetlink's numbers as well: sock_diag's requests are known by their length, and one of XFRM's that only
        // asks counts as a step.
        let asks = kind < RTM_BASE || (kind - RTM_BASE) % 4 == 2 || kind == 20 && len == 72;
        (u64::from(said) <= len && said >= 16 && !asks).then_some((at + 4, kind))
    }

    /// Makes a netlink message one that the kernel does not know; false if it is none. A socket that cannot send is another
    /// kind of failure, which the kernel's answers do not have.
    fn refuse_netlink(&self) -> bool {
        let Some((at, _)) = self.netlink() else { return false };
        let memory = OpenOptions::new().write(true).open(format!("/proc/{}/mem", self.pid));
        memory.and_then(|memory| memory.write_all_at(&UNKNOWN.to_le_bytes(), at)).expect("change a message");
        true
    }

    /// The path of an open file; none for what is not one, and for what is printed.
    fn file(&self, descriptor: u64) -> Option<String> {
        let path = fs::read_link(format!("/proc/{}/fd/{descriptor}", self.pid)).ok()?;
        let path = path.to_str()?;
        (descriptor > 2 && path.starts_with('/') && !path.starts_with("/dev/")).then(|| path.to_owned())
    }

    fn text(&self, at: u64) -> String {
        let Some(memory) = self.memory() else { return String::new() };
        let mut bytes = Vec::new();
        let mut byte = [0];
        while memory.read_exact_at(&mut byte, at + bytes.len() as u64).is_ok() && byte != [0] {
            bytes.extend(byte);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn words(&self, at: u64) -> Option<[u64; 2]> {
        let bytes: [u8; 16] = self.bytes(at)?;
        Some(bytemuck::cast(bytes))
    }

    fn bytes<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        self.memory()?.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    fn memory(&self) -> Option<File> {
        File::open(format!("/proc/{}/mem", self.pid)).ok()
    }
}

/// The name of a BPF command, if what it does is seen by others.
fn changing_command(command: u64) -> Option<&'static str> {
    use bpf_cmd::{
        BPF_LINK_CREATE, BPF_LINK_DETACH, BPF_LINK_UPDATE, BPF_MAP_DELETE_BATCH, BPF_MAP_DELETE_ELEM,
        BPF_MAP_UPDATE_BATCH, BPF_MAP_UPDATE_ELEM, BPF_OBJ_PIN, BPF_PROG_ATTACH, BPF_PROG_DETACH,
    };
    let all = [
        (BPF_MAP_UPDATE_ELEM, "map update"),
        (BPF_MAP_DELETE_ELEM, "map delete"),
        (BPF_MAP_UPDATE_BATCH, "map update batch"),
        (BPF_MAP_DELETE_BATCH, "map delete batch"),
        (BPF_OBJ_PIN, "pin"),
        (BPF_PROG_ATTACH, "attach"),
        (BPF_PROG_DETACH, "detach"),
        (BPF_LINK_CREATE, "link"),
        (BPF_LINK_UPDATE, "link update"),
        (BPF_LINK_DETACH, "unlink"),
    ];
    all.into_iter().find(|(one, _)| *one as u64 == command).map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a shell does that writes two files.
    fn shell(folder: &std::path::Path) -> Command {
        let mut command = Command::new("env");
        command.arg("-C").arg(folder).args(["sh", "-c", "echo one > one && echo two > two"]);
        command
    }

    #[test]
    fn each_step_is_seen_and_may_be_the_last_or_fail() {
        let folder = tempfile::tempdir().expect("a folder");
        let there = |name: &str| folder.path().join(name).exists();
        let Traced { steps, code, .. } = run(&shell(folder.path()), Fate::Ends);
        assert_eq!(code, Some(0));
        assert_eq!(steps.iter().filter(|step| step.starts_with("open ")).count(), 2, "{steps:?}");
        let second = steps.iter().position(|step| step == "open two").expect("a second file");
        fs::remove_file(folder.path().join("one")).expect("remove");
        fs::remove_file(folder.path().join("two")).expect("remove");
        let killed = run(&shell(folder.path()), Fate::Dies(second));
        assert_eq!(killed.code, None);
        assert_eq!(killed.at(Fate::Dies(second)), Some("open two"));
        assert!(there("one") && !there("two"));
        let failed = run(&shell(folder.path()), Fate::Fails(0, Errno::ENOSPC));
        assert!(failed.code.is_some_and(|code| code != 0), "{failed:?}");
        assert!(failed.stderr.contains("No space left"), "{failed:?}");
    }
}
