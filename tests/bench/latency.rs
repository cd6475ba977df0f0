//! Requests and responses at a fixed rate. Each is timed from when it was due, so waiting for the previous one counts.
//!
//! Both ends spin, so they notice when a timer interrupt or the hypervisor takes their CPU. Requests that met such a
//! pause do not depend on the contender, and are left out.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use netd_tests::netns::Netns;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// Bytes of a request, and of its answer.
const LEN: usize = 64;

/// Percentiles of the latency, µs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    /// The share of requests that met a pause of a CPU.
    pub(crate) left_out: f64,
}

fn stay_on(cpu: usize) {
    let mut cpus = CpuSet::new();
    cpus.set(cpu).expect("a CPU");
    sched_setaffinity(Pid::from_raw(0), &cpus).expect("stay on one CPU");
}

/// The longest time to read the clock and to poll without a packet; more is a pause. No contender runs on this CPU
/// meanwhile, since the CPU that sends a packet also carries it.
const IDLE_PAUSE: Duration = Duration::from_micros(5);

/// The longest time to send or receive a message; more is a pause. Ten times the latency of a packet.
const PAUSE: Duration = Duration::from_micros(100);

/// The largest share of requests that may meet a pause.
const MOST_LEFT_OUT: f64 = 0.9;

/// The pauses of one CPU.
struct Watch {
    last: Instant,
    pauses: Vec<(Instant, Instant)>,
}

impl Watch {
    fn new() -> Self {
        Self { last: Instant::now(), pauses: Vec::new() }
    }

    /// The time after a packet was sent or received.
    fn now(&mut self) -> Instant {
        self.at_most(PAUSE)
    }

    /// The time after polling without a packet.
    fn idle(&mut self) -> Instant {
        self.at_most(IDLE_PAUSE)
    }

    /// The time; records a pause if the last call was longer ago than this.
    fn at_most(&mut self, longest: Duration) -> Instant {
        let now = Instant::now();
        if now - self.last > longest {
            self.pauses.push((self.last, now));
        }
        self.last = now;
        now
    }
}

/// Whether there was a pause between two times; `pauses` are in order and apart.
fn paused(pauses: &[(Instant, Instant)], start: Instant, end: Instant) -> bool {
    let next = pauses.partition_point(|(_, over)| *over <= start);
    pauses.get(next).is_some_and(|(begun, _)| *begun < end)
}

/// Reads a whole message without sleeping, so that the wake-up time of a CPU is not measured.
fn receive(
    stream: &mut TcpStream,
    bytes: &mut [u8; LEN],
    watch: &mut Watch,
    goes_on: impl Fn(Instant) -> bool,
) -> bool {
    let mut have = 0;
    watch.now();
    while have < LEN {
        match stream.read(&mut bytes[have..]) {
            Ok(0) => return false,
            Ok(more) => {
                have += more;
                watch.now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if !goes_on(watch.idle()) {
                    return false;
                }
                std::hint::spin_loop();
            }
            Err(error) => panic!("receive: {error}"),
        }
    }
    true
}

/// Sends `rate` requests a second for `seconds` from `client` to `address`, where a server listens on `port` in
/// `server`.
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
        let serving = scope.spawn(|| {
            stay_on(0);
            let (mut stream, _) = listener.accept().expect("accept");
            stream.set_nodelay(true).expect("no delay");
            stream.set_nonblocking(true).expect("no waiting");
            let (mut bytes, mut watch) = ([0; LEN], Watch::new());
            while receive(&mut stream, &mut bytes, &mut watch, |_| !over.load(Ordering::Relaxed)) {
                stream.write_all(&bytes).expect("answer");
            }
            watch.pauses
        });
        let (asked, own) = client.run(|| {
            stay_on(1);
            let mut stream = TcpStream::connect(address).expect("connect");
            stream.set_nodelay(true).expect("no delay");
            stream.set_nonblocking(true).expect("no waiting");
            let between = Duration::from_secs_f64(1.0 / rate);
            let count = (rate * seconds) as u32;
            let mut asked = Vec::with_capacity(count as usize);
            let mut watch = Watch::new();
            let start = Instant::now() + Duration::from_millis(20);
            for number in 0..count {
                let due = start + between * number;
                while watch.idle() < due {
                    std::hint::spin_loop();
                }
                let mut request = [0; LEN];
                request[..4].copy_from_slice(&number.to_ne_bytes());
                stream.write_all(&request).expect("ask");
                let mut answer = [0; LEN];
                let deadline = due + Duration::from_secs(5);
                assert!(receive(&mut stream, &mut answer, &mut watch, |now| now < deadline), "no answer");
                assert_eq!(answer, request, "an answer to another question");
                asked.push((due, watch.now()));
            }
            (asked, watch.pauses)
        });
        over.store(true, Ordering::Relaxed);
        let others = serving.join().expect("the server's end");
        let mut took: Vec<f64> = asked
            .iter()
            .filter(|(due, done)| !paused(&own, *due, *done) && !paused(&others, *due, *done))
            .map(|(due, done)| (*done - *due).as_secs_f64() * 1e6)
            .collect();
        let left_out = 1.0 - took.len() as f64 / asked.len() as f64;
        assert!(left_out < MOST_LEFT_OUT, "{:.0} % of all requests met a pause of a CPU", left_out * 100.0);
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
        Latency { p50: at(0.5), p99: at(0.99), p999: at(0.999), left_out }
    })
}
