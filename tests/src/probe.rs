//! Servers that run inside a namespace until they are dropped, and their clients.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, setsockopt, socket, sockopt,
};

use crate::netns::run_in;
use crate::wait_for;

/// How long a probe waits for an answer that must come: long, since a busy machine is slow.
pub const PATIENCE: Duration = Duration::from_mins(1);
/// How long a probe waits for an answer that must not come.
pub const SILENCE: Duration = Duration::from_millis(400);

/// How long a probe waits for an answer, by whether it must come.
pub const fn patience(must_come: bool) -> Duration {
    if must_come { PATIENCE } else { SILENCE }
}

/// Opens a socket as soon as its addresses and ports are free; every other error fails the test.
///
/// A closed socket may still be open for a short time: a process that another thread has forked holds copies of all
/// descriptors until it calls exec.
#[track_caller]
pub fn when_free<T>(mut open: impl FnMut() -> io::Result<T>) -> T {
    let mut opened = None;
    wait_for("an address and port to be free", PATIENCE, || match open() {
        Ok(socket) => {
            opened = Some(socket);
            true
        }
        Err(error) if matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::AddrNotAvailable) => false,
        Err(error) => panic!("open a socket: {error}"),
    });
    opened.expect("opened")
}

/// A UDP socket on this port of the calling thread's namespace, in both families where IPv6 is on.
#[track_caller]
pub fn udp_on(port: u16) -> UdpSocket {
    when_free(|| UdpSocket::bind(("::", port)))
}

/// A TCP listener, likewise.
#[track_caller]
pub fn tcp_on(port: u16) -> TcpListener {
    when_free(|| TcpListener::bind(("::", port)))
}

/// Connects from this port of the calling thread's namespace. Closing sends a reset, so the port is free at once.
pub fn tcp_from(port: u16, to: SocketAddrV4) -> io::Result<TcpStream> {
    let socket = socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, sockopt::ReuseAddr, &true)?;
    setsockopt(&socket, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
    bind(socket.as_raw_fd(), &SockaddrIn::new(0, 0, 0, 0, port))?;
    connect(socket.as_raw_fd(), &SockaddrIn::from(to))?;
    Ok(TcpStream::from(socket))
}

/// A server on a thread.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    fn new(serve: impl FnOnce(Arc<AtomicBool>) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        Self { stop, thread: Some(std::thread::spawn(move || serve(theirs))) }
    }

    /// Sends every datagram back, from the namespace at `netns`, in both families.
    pub fn udp_echo(netns: &Path, port: u16) -> Self {
        let socket = run_in(netns, || udp_on(port));
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("timeout");
        Self::new(move |stop| {
            let mut buffer = vec![0; 65536];
            while !stop.load(Ordering::Relaxed) {
                if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                    let _refused = socket.send_to(&buffer[..len], from);
                }
            }
        })
    }

    /// Sends each TCP client the address that it is seen with, then sends back what it sends.
    pub fn tcp_echo(netns: &Path, port: u16) -> Self {
        Self::tcp(netns, port, |mut stream, from| {
            let mut buffer = [0; 4096];
            if writeln!(stream, "{}", from.ip().to_canonical()).is_err() {
                return;
            }
            while let Ok(len @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..len]).is_err() {
                    return;
                }
            }
        })
    }

    /// Runs `serve` for each TCP client of either family, on a new thread.
    pub fn tcp(
        netns: &Path,
        port: u16,
        serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> Self {
        let listener = run_in(netns, || tcp_on(port));
        listener.set_nonblocking(true).expect("nonblocking");
        let serve = Arc::new(serve);
        Self::new(move |stop| {
            while !stop.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, from)) => {
                        stream.set_nonblocking(false).expect("blocking");
                        let serve = Arc::clone(&serve);
                        std::thread::spawn(move || serve(stream, from));
                    }
                    Err(_) => std::thread::park_timeout(Duration::from_millis(1)),
                }
            }
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Connects from the calling thread's namespace and returns the first line that the server sends.
pub fn tcp_first_line(to: &str, patience: Duration) -> io::Result<String> {
    let stream = TcpStream::connect_timeout(&to.parse().expect("an address"), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(&stream), &mut line)?;
    Ok(line.trim().to_owned())
}

/// Sends `len` bytes to a [`Server::tcp_echo`] and fails unless exactly these come back.
#[track_caller]
pub fn tcp_echoes(to: &str, len: usize) {
    let mut stream = TcpStream::connect(to).expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
    let sent: Vec<u8> = (0..=250).cycle().take(len).collect();
    let mut writer = stream.try_clone().expect("a second handle");
    let bytes = sent.clone();
    let writing = std::thread::spawn(move || {
        writer.write_all(&bytes).expect("sent");
        writer.shutdown(std::net::Shutdown::Write).expect("closed");
    });
    let mut got = Vec::new();
    stream.read_to_end(&mut got).expect("read");
    writing.join().expect("the writer");
    let start = got.iter().position(|byte| *byte == b'\n').expect("the server's first line") + 1;
    assert!(got[start..] == sent, "{} of {len} bytes, or others", got.len() - start);
}

/// Sends a datagram and returns the answer and its source.
pub fn udp_ask(socket: &UdpSocket, to: &str, payload: &[u8]) -> io::Result<(Vec<u8>, SocketAddr)> {
    socket.send_to(payload, to)?;
    let mut buffer = vec![0; 65536];
    let (len, from) = socket.recv_from(&mut buffer)?;
    buffer.truncate(len);
    Ok((buffer, from))
}

/// Sends a datagram and fails unless it is answered, or not, as `must` says.
#[track_caller]
pub fn udp_answers(socket: &UdpSocket, to: &str, must: bool) {
    socket.set_read_timeout(Some(patience(must))).expect("timeout");
    let answer = udp_ask(socket, to, b"x");
    assert_eq!(answer.is_ok(), must, "{to}: {answer:?}");
}

/// A UDP socket of the calling thread's namespace.
pub fn udp_socket(patience: Duration) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    socket.set_read_timeout(Some(patience)).expect("timeout");
    socket
}
