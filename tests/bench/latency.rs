//! Requests and answers at a fixed load, each timed from when it was due: one that has to wait for the one before counts
//! with its wait.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netd_tests::netns::Netns;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Bytes of a request, and of its answer.
const LEN: usize = 64;

/// What share of requests took how long, µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

fn stay_on(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("stay on one CPU");
}

/// Reads a whole message, without sleeping: how long a CPU takes to wake up is not what is measured.
fn receive(stream: &mut TcpStream, bytes: &mut [u8; LEN], goes_on: impl Fn() -> bool) -> bool {
    let mut have = 0;
    while have < LEN {
        match stream.read(&mut bytes[have..]) {
            Ok(0) => return false,
            Ok(more) => have += more,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !goes_on() {
                    return false;
                }
                std::hint::spin_loop();
            }
            Err(error) => panic!("receive: {error}"),
        }
    }
    true
}

/// Asks a server on `port` in `server`, which `client` reaches by `address`, at `rate` a second for `seconds`.
pub(crate) fn ask(
    client: &Netns,
    server: &Netns,
    address: SocketAddr,
    port: u16,
    rate: f64,
    seconds: f64,
) -> Latency {
    let listener = server.run(|| TcpListener::bind(("0.0.0.0", port)).expect("listen"));
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            stay_on(0);
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_nodelay(true).expect("no delay");
            stream.set_nonblocking(true).expect("no waiting");
            let mut bytes = [0; LEN];
            while receive(&mut stream, &mut bytes, || !over.load(Ordering::Relaxed)) {
                stream.write_all(&bytes).expect("answer");
            }
        });
        let mut took = client.run(|| {
            stay_on(1);
            let mut stream = TcpStream::connect(address).expect("connect");
            stream.set_nodelay(true).expect("no delay");
            stream.set_nonblocking(true).expect("no waiting");
            let between = Duration::from_secs_f64(1.0 / rate);
            let count = (rate * seconds) as u32;
            let mut took = Vec::with_capacity(count as usize);
            let start = Instant::now() + Duration::from_millis(20);
            for number in 0..count {
                let due = start + between * number;
                while Instant::now() < due {
                    std::hint::spin_loop();
                }
                let mut request = [0; LEN];
                request[..4].copy_from_slice(&number.to_ne_bytes());
                stream.write_all(&request).expect("ask");
                let mut answer = [0; LEN];
                let deadline = due + Duration::from_secs(5);
                assert!(receive(&mut stream, &mut answer, || Instant::now() < deadline), "no answer");
                assert_eq!(answer, request, "an answer to another question");
                took.push(due.elapsed().as_secs_f64() * 1e6);
            }
            took
        });
        over.store(true, Ordering::Relaxed);
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    })
}
