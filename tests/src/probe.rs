//! Servers that run inside a namespace for as long as they are held, and what speaks to them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::netns::run_in;
use crate::wait_for;

/// How long a probe waits for an answer that must come.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a probe waits for an answer that must not come.
pub const SILENCE: Duration = Duration::from_millis(400);

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
        let mut socket = None;
        wait_for("the port to be free", PATIENCE, || {
            socket = run_in(netns, || UdpSocket::bind(("::", port))).ok();
            socket.is_some()
        });
        let socket = socket.expect("bound");
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

    /// Tells each TCP client the address it is seen with, then sends back what it says until it ends.
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

    /// Does `serve` with each TCP client of either family, on a thread of its own.
    pub fn tcp(
        netns: &Path,
        port: u16,
        serve: impl Fn(TcpStream, SocketAddr) + Send + Sync + 'static,
    ) -> Self {
        let mut listener = None;
        // A process that another test is just starting holds a copy of the last server's socket until it becomes itself.
        wait_for("the port to be free", PATIENCE, || {
            listener = run_in(netns, || TcpListener::bind(("::", port))).ok();
            listener.is_some()
        });
        let listener = listener.expect("bound");
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

/// Connects from the calling thread's namespace and returns the first line that the server says.
pub fn tcp_first_line(to: &str, patience: Duration) -> std::io::Result<String> {
    let stream = TcpStream::connect_timeout(&to.parse().expect("an address"), patience)?;
    stream.set_read_timeout(Some(patience))?;
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(&stream), &mut line)?;
    Ok(line.trim().to_owned())
}

/// Sends `len` bytes to a [`Server::tcp_echo`] and fails unless they come back, all of them and no others.
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

/// Sends a datagram and returns the answer and who it came from.
pub fn udp_ask(socket: &UdpSocket, to: &str, payload: &[u8]) -> std::io::Result<(Vec<u8>, SocketAddr)> {
    socket.send_to(payload, to)?;
    let mut buffer = vec![0; 65536];
    let (len, from) = socket.recv_from(&mut buffer)?;
    buffer.truncate(len);
    Ok((buffer, from))
}

/// A UDP socket of the calling thread's namespace.
pub fn udp_socket(patience: Duration) -> UdpSocket {
    let socket = UdpSocket::bind("0.0.0.0:0").expect("bind");
    socket.set_read_timeout(Some(patience)).expect("timeout");
    socket
}
