//! Traffic in which nothing may be lost, beside what a test does.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use netd_tests::lab::{HOST, Lab, OUTSIDE};
use netd_tests::netns::{Process, run_in, sandbox};
use netd_tests::probe::{PATIENCE, Server};
use netd_tests::wait_for;
use nix::sys::socket::{setsockopt, sockopt};

/// A connection that asks and is answered, again and again. Its end frees its port at once.
pub(crate) struct Echo {
    stream: TcpStream,
}

impl Echo {
    /// Connects from the calling thread's namespace.
    pub(crate) fn to(address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        setsockopt(&stream, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 }).unwrap();
        let mut line = Self { stream };
        line.read_line();
        line
    }

    fn read_line(&mut self) {
        let mut byte = [0];
        while byte != [b'\n'] {
            self.stream.read_exact(&mut byte).unwrap();
        }
    }

    /// Asks once, and waits for the answer.
    pub(crate) fn ask(&mut self) {
        self.stream.write_all(b"still there?\n").unwrap();
        self.read_line();
    }
}

/// Traffic of all kinds through a lab, in which nothing is lost.
pub(crate) struct Traffic<'a> {
    lab: &'a Lab,
    web: String,
    stop: AtomicBool,
    /// New connections, and datagrams that were answered.
    connections: AtomicU64,
    datagrams: AtomicU64,
}

/// Half of the connections that only wait.
pub(crate) const IDLE: usize = 100;

impl<'a> Traffic<'a> {
    /// Traffic of the client to this container, which has ports 80 (TCP and UDP) published as 8080, and 5201 for what is
    /// heavy; and of the container to the machine outside.
    pub(crate) fn new(lab: &'a Lab, web: &str) -> Self {
        let (connections, datagrams) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { lab, web: web.to_owned(), stop: AtomicBool::new(false), connections, datagrams }
    }

    /// Where the client connects to.
    pub(crate) fn inbound() -> String {
        format!("{HOST}:8080")
    }

    /// Where the container connects to.
    pub(crate) fn outbound() -> String {
        format!("{OUTSIDE}:7")
    }

    /// Runs `work` beside a stream, new connections, datagrams, and connections that wait.
    pub(crate) fn beside(&self, work: impl FnOnce()) {
        self.beside_datagrams(Duration::ZERO, || {
            let mut server = self.lab.command_in(&self.web, "exec iperf3 -s");
            let _iperf_server = Process::new(server.stdout(Stdio::null()));
            let mut bulk = self.bulk();
            thread::scope(|scope| {
                for (at, to) in self.ways() {
                    scope.spawn(move || run_in(&at, || self.new_connections(&to)));
                }
                self.finish(work);
            });
            assert!(bulk.try_wait().unwrap().is_none(), "iperf3 has ended before it was told to");
            bulk.kill().unwrap();
            bulk.wait().unwrap();
            assert!(self.connections.load(Ordering::Relaxed) > 0);
        });
    }

    /// Runs `work` beside datagrams, with this time between one's answer and the next, and connections that wait.
    pub(crate) fn beside_datagrams(&self, pause: Duration, work: impl FnOnce()) {
        let (inside, outside) = (sandbox(&self.web), self.lab.outside.path());
        let _servers = [(&inside, 80), (&outside, 7)]
            .map(|(at, port)| (Server::tcp_echo(at, port), Server::udp_echo(at, port)));
        let waiting =
            self.ways().map(|(at, to)| run_in(&at, || (0..IDLE).map(|_| Echo::to(&to)).collect::<Vec<_>>()));
        thread::scope(|scope| {
            for (at, to) in self.ways() {
                scope.spawn(move || run_in(&at, || self.datagrams(&to, pause)));
            }
            self.finish(work);
        });
        for mut one in waiting.into_iter().flatten() {
            one.ask();
        }
        assert!(self.datagrams.load(Ordering::Relaxed) > 0);
    }

    /// From where to where.
    fn ways(&self) -> [(PathBuf, String); 2] {
        [(self.lab.client.path(), Self::inbound()), (sandbox(&self.web), Self::outbound())]
    }

    /// Does the work, and lets the traffic end.
    fn finish(&self, work: impl FnOnce()) {
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        self.stop.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    }

    /// A stream that goes on until it is killed.
    fn bulk(&self) -> std::process::Child {
        let line = format!("exec iperf3 -t 3600 -b 200M -c {HOST} -p 5201");
        let mut started = None;
        wait_for("iperf3 to run", PATIENCE, || {
            let mut command = self.lab.client.command("sh");
            let child: &mut Command = command.args(["-c", &line]).stdout(Stdio::null());
            let mut child = child.spawn().unwrap();
            let received = || self.lab.port("tcp", 5201)["bytes"]["in"].as_u64().unwrap();
            let begun = received();
            let is_there = || received() > begun + 1_000_000;
            let deadline = Instant::now() + PATIENCE;
            while child.try_wait().unwrap().is_none() && Instant::now() < deadline {
                if is_there() {
                    started = Some(child);
                    return true;
                }
            }
            false
        });
        started.unwrap()
    }

    /// Every new connection must be there at once.
    fn new_connections(&self, to: &str) {
        while !self.stop.load(Ordering::Relaxed) {
            Echo::to(to).ask();
            self.connections.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every datagram must be answered: the next one waits for that.
    fn datagrams(&self, to: &str, pause: Duration) {
        let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.connect(to).unwrap();
        let mut number = 0_u64;
        while !self.stop.load(Ordering::Relaxed) {
            number += 1;
            socket.send(&number.to_be_bytes()).unwrap();
            let mut answer = [0; 8];
            let len = socket
                .recv(&mut answer)
                .unwrap_or_else(|why| panic!("datagram {number} to {to} is lost: {why}"));
            assert_eq!(answer[..len], number.to_be_bytes(), "{to}");
            self.datagrams.fetch_add(1, Ordering::Relaxed);
            thread::park_timeout(pause);
        }
    }
}
