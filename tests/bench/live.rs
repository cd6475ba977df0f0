//! Packets made in the kernel: BPF_PROG_TEST_RUN in live-frame mode, on one CPU, counted where they arrive.

use std::cell::OnceCell;
use std::time::Instant;

use aya::maps::PerCpuArray;
use aya::programs::tc::{TcAttachOptions, TcAttachType};
use aya::programs::xdp::XdpMode;
use aya::programs::{LinkOrder, SchedClassifier, TestRun as _, TestRunAttrs, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use netd_tests::netns::Netns;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use crate::ground::{CONTAINER, Contender, FLOWS, Ground, SMALL};

static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("NETD_LOAD_OBJECT"));

/// The first bytes of the payload, by which the sinks recognise the load.
const MARK: [u8; 4] = *b"netd";
/// The CPU that does all the work; interrupts usually go to the first one.
const CPU: usize = 1;
/// Frames that the kernel makes at a time, as a NIC's poll takes (NAPI_POLL_WEIGHT).
const BATCH: u32 = 64;
/// Frames in a run that shows what a run costs besides its frames.
const FEW: u32 = BATCH;
/// How many runs are made; the fastest counts, since interruptions make a run slower and never faster.
pub(crate) const TRIES: u32 = 3;
/// A single run, for packets that must be new.
pub(crate) const ONCE: u32 = 1;
/// Frames that are made in addition to those of one run.
pub(crate) const AROUND: u32 = (TRIES + ONCE) * FEW;

/// The hook that counts packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sink {
    /// By TC, on the way into the stack.
    Tc,
    /// By XDP, before there is an skb.
    Xdp,
}

/// The counters of a sink.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Arrived {
    /// Correct packets of the load.
    pub(crate) right: u64,
    /// Wrong packets of the load.
    pub(crate) wrong: u64,
}

/// A sink on an interface; gone when dropped.
#[derive(Debug)]
pub(crate) struct Counter {
    object: Ebpf,
}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Words<const N: usize>([u64; N]);
// SAFETY: an array of words has no padding and every pattern of bits is one.
unsafe impl<const N: usize> Pod for Words<N> {}
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Halves<const N: usize>([u32; N]);
// SAFETY: as above.
unsafe impl<const N: usize> Pod for Halves<N> {}

fn word(bytes: [u8; 4]) -> u32 {
    u32::from_ne_bytes(bytes)
}

/// Which packets are correct for a sink; port zero means any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    /// Source, if it matters.
    pub(crate) src: Option<([u8; 4], u16)>,
    /// Destination, if it matters.
    pub(crate) dst: Option<([u8; 4], u16)>,
}

impl Counter {
    /// Attaches a sink to an interface of `netns`.
    pub(crate) fn new(netns: &Netns, interface: &str, sink: Sink, expected: Expected) -> Self {
        let mut words = [0_u32; 3];
        let mut mask = [0_u32; 3];
        let mut ports = [0_u8; 4];
        let mut ports_mask = [0_u8; 4];
        for (number, end) in [expected.src, expected.dst].into_iter().enumerate() {
            if let Some((address, port)) = end {
                words[number] = word(address);
                mask[number] = u32::MAX;
                if port != 0 {
                    ports[2 * number..][..2].copy_from_slice(&port.to_be_bytes());
                    ports_mask[2 * number..][..2].copy_from_slice(&[0xff; 2]);
                }
            }
        }
        words[2] = word(ports);
        mask[2] = word(ports_mask);
        let mut object = EbpfLoader::new()
            .override_global("EXPECTED", &Halves(words), true)
            .override_global("EXPECTED_MASK", &Halves(mask), true)
            .override_global("MARK", &word(MARK), true)
            .load(OBJECT)
            .expect("load the sinks");
        netns.run(|| match sink {
            Sink::Tc => {
                let program: &mut SchedClassifier =
                    object.program_mut("sink").expect("it is there").try_into().expect("a classifier");
                program.load().expect("load the sink");
                program
                    .attach_with_options(
                        interface,
                        TcAttachType::Ingress,
                        TcAttachOptions::TcxOrder(LinkOrder::first()),
                    )
                    .expect("attach the sink");
            }
            Sink::Xdp => {
                let program: &mut Xdp =
                    object.program_mut("sink_xdp").expect("it is there").try_into().expect("an XDP program");
                program.load().expect("load the sink");
                program.attach(interface, XdpMode::Driver).expect("attach the sink");
            }
        });
        Self { object }
    }

    /// What has arrived since it was made.
    pub(crate) fn arrived(&self) -> Arrived {
        let map = self.object.map("ARRIVED").expect("it is there");
        let map: PerCpuArray<_, Words<2>> = PerCpuArray::try_from(map).expect("an array");
        let mut sum = Arrived::default();
        for Words([right, wrong]) in map.get(&0, 0).expect("read the counters").iter() {
            sum.right += right;
            sum.wrong += wrong;
        }
        sum
    }
}

/// A stream of frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream {
    /// The constant end.
    pub(crate) fixed: ([u8; 4], u16),
    /// Whether the flows' addresses are the destination.
    pub(crate) outward: bool,
    /// The first of the flows' addresses.
    pub(crate) base: [u8; 4],
    /// How many flows.
    pub(crate) flows: u32,
    /// The number of the first.
    pub(crate) first: u32,
}

/// What makes a stream.
#[derive(Debug)]
pub(crate) struct Generator {
    object: Ebpf,
    netns: std::path::PathBuf,
    around: OnceCell<f64>,
}

/// How fast frames were made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// What each takes, seconds.
    pub(crate) seconds: f64,
    /// How many there were in all runs.
    pub(crate) made: u64,
}

/// The rate of a stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rate {
    /// Packets a second that arrived correctly.
    pub(crate) per_second: f64,
    /// The share of all packets that arrived correctly.
    pub(crate) share: f64,
    /// Packets that arrived wrong.
    pub(crate) wrong: u64,
}

impl Generator {
    /// Frames that leave by `interface` of `netns` for the MAC address `far`.
    pub(crate) fn new(netns: &Netns, interface: &str, far: [u8; 6], stream: &Stream) -> Self {
        let mut frame = [0_u8; 56];
        frame[..6].copy_from_slice(&far);
        frame[6..12].copy_from_slice(&mac(netns, interface));
        frame[12..14].copy_from_slice(&[8, 0]);
        // 46 bytes of IP make the shortest frame.
        frame[14..24].copy_from_slice(&[0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, 17]);
        let fixed_at = usize::from(!stream.outward);
        let (address, port) = stream.fixed;
        frame[26 + 4 * fixed_at..][..4].copy_from_slice(&address);
        frame[34 + 2 * fixed_at..][..2].copy_from_slice(&port.to_be_bytes());
        frame[38..40].copy_from_slice(&26_u16.to_be_bytes());
        frame[42..46].copy_from_slice(&MARK);
        let sum = |bytes: &[u8]| -> u32 {
            let words = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
            let sum: u32 = words.sum();
            (sum & 0xffff) + (sum >> 16)
        };
        // Pseudo header: both addresses, protocol, length.
        let sums = [sum(&frame[14..34]), sum(&frame[26..56]) + 17 + 26];
        let mut words = [0_u64; 7];
        bytemuck::bytes_of_mut(&mut words).copy_from_slice(&frame);
        let mut object = EbpfLoader::new()
            .override_global("FRAME", &Words(words), true)
            .override_global("OUT", &netns.run(|| ifindex(interface)), true)
            .override_global("FLOWS", &stream.flows, true)
            .override_global("FIRST", &stream.first, true)
            .override_global("AT_DESTINATION", &u32::from(stream.outward), true)
            .override_global("ADDRESS", &u32::from_be_bytes(stream.base), true)
            .override_global("SUMS", &Halves(sums), true)
            .load(OBJECT)
            .expect("load the generator");
        let program: &mut Xdp =
            object.program_mut("generate").expect("it is there").try_into().expect("an XDP program");
        program.load().expect("load the generator");
        Self { object, netns: netns.path(), around: OnceCell::new() }
    }

    /// Makes so many frames.
    pub(crate) fn send(&self, frames: u32) {
        self.timed(frames);
    }

    /// Counts what arrives in about `seconds`.
    pub(crate) fn run(&self, sink: &Counter, seconds: f64) -> Rate {
        self.rate(sink, self.frames(seconds), TRIES)
    }

    /// How many frames take about so long.
    pub(crate) fn frames(&self, seconds: f64) -> u32 {
        let around = self.around();
        let mut frames = 1024;
        loop {
            let took = self.timed(FEW + frames) - around;
            if took > seconds / 4.0 {
                return (f64::from(frames) * seconds / took) as u32;
            }
            frames *= 8;
        }
    }

    /// The time for a frame in the fastest of several runs of this many frames.
    pub(crate) fn pace(&self, frames: u32, tries: u32) -> Pace {
        let took = self.fastest(FEW + frames, tries) - self.around();
        let made = u64::from(tries) * u64::from(FEW + frames);
        Pace { seconds: took.max(1e-9) / f64::from(frames), made }
    }

    /// The fixed cost of a run, seconds: the kernel needs some 30 ms to start and end one. Measured at the first call,
    /// by runs of few frames.
    fn around(&self) -> f64 {
        *self.around.get_or_init(|| self.fastest(FEW, TRIES))
    }

    /// How long the fastest of some runs takes, seconds.
    fn fastest(&self, frames: u32, tries: u32) -> f64 {
        (0..tries).map(|_| self.timed(frames)).fold(f64::INFINITY, f64::min)
    }

    /// Makes this many frames; returns the time, seconds.
    fn timed(&self, frames: u32) -> f64 {
        let program: &Xdp = self.object.program("generate").expect("it is there").try_into().expect("XDP");
        let run = |frames: u32| {
            let room = [0_u8; 60];
            let mut options = TestRunOptions::new();
            options.data_in = Some(&room);
            options.repeat = frames;
            options.attrs = TestRunAttrs::new().xdp_live_frames(BATCH);
            let start = Instant::now();
            program.test_run(options).expect("make live frames");
            start.elapsed().as_secs_f64()
        };
        netd_tests::netns::run_in(&self.netns, || {
            let mut cpus = CpuSet::new();
            cpus.set(CPU).expect("a second CPU");
            sched_setaffinity(Pid::from_raw(0), &cpus).expect("stay on one CPU");
            run(frames)
        })
    }

    /// Makes this many frames in each of several runs and counts what arrives.
    pub(crate) fn rate(&self, sink: &Counter, frames: u32, tries: u32) -> Rate {
        self.around();
        let before = sink.arrived();
        let pace = self.pace(frames, tries);
        let after = sink.arrived();
        let share = (after.right - before.right) as f64 / pace.made as f64;
        Rate { per_second: share / pace.seconds, share, wrong: after.wrong - before.wrong }
    }
}

fn ifindex(name: &str) -> u32 {
    nix::net::if_::if_nametoindex(name).unwrap_or_else(|error| panic!("interface {name}: {error}"))
}

/// The MAC address of an interface.
pub(crate) fn mac(netns: &Netns, interface: &str) -> [u8; 6] {
    let shown = netns.ip(&format!("-o link show dev {interface}"));
    let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
    let mac = words.nth(1).expect("a MAC address");
    let mut bytes = [0_u8; 6];
    for (byte, part) in bytes.iter_mut().zip(mac.split(':')) {
        *byte = u8::from_str_radix(part, 16).expect("hexadecimal");
    }
    bytes
}

/// Redirects every packet, see [`Contender::Bare`]; removed when dropped.
#[derive(Debug)]
pub(crate) struct Bare {
    _programs: [Ebpf; 2],
}

impl Bare {
    /// Attaches it between the client and the container of a ground. With `counted` each packet is added to a counter,
    /// as netd does.
    pub(crate) fn new(ground: &Ground, counted: bool) -> Self {
        let host = &ground.host;
        let program = |name: &str, on: &str, to: &str| {
            let mut object = EbpfLoader::new()
                .override_global("OUT", &host.run(|| ifindex(to)), true)
                .override_global("COUNTED", &u32::from(counted), true)
                .load(OBJECT)
                .expect("load a redirect");
            let program: &mut SchedClassifier =
                object.program_mut(name).expect("it is there").try_into().expect("a classifier");
            program.load().expect("load a redirect");
            let order = TcAttachOptions::TcxOrder(LinkOrder::first());
            host.run(|| program.attach_with_options(on, TcAttachType::Ingress, order).map(drop))
                .expect("attach a redirect");
            object
        };
        Self {
            _programs: [program("bare_in", "up0", &ground.veth), program("bare_out", &ground.veth, "up0")],
        }
    }
}

/// Drops every packet of an interface; removed when dropped.
#[derive(Debug)]
pub(crate) struct Dropper {
    _program: Ebpf,
}

impl Dropper {
    /// Attaches it.
    pub(crate) fn new(netns: &Netns, interface: &str) -> Self {
        let mut object = Ebpf::load(OBJECT).expect("load a program");
        let program: &mut Xdp =
            object.program_mut("drop_xdp").expect("it is there").try_into().expect("an XDP program");
        program.load().expect("load a program");
        netns.run(|| program.attach(interface, XdpMode::Driver).map(drop)).expect("attach a program");
        Self { _program: object }
    }
}

/// A sink for packets to the container.
pub(crate) fn container_sink(ground: &Ground) -> Counter {
    let expected = Expected { src: None, dst: Some((CONTAINER, SMALL.target)) };
    Counter::new(&ground.container, "eth0", Sink::Tc, expected)
}

/// A sink for packets to the client, with their expected source.
pub(crate) fn client_sink(ground: &Ground) -> Counter {
    let expected = Expected { src: Some(ground.address(SMALL)), dst: None };
    Counter::new(&ground.client, "eth0", Sink::Tc, expected)
}

/// Packets from the client to `to`.
pub(crate) fn from_client(ground: &Ground, to: ([u8; 4], u16), flows: u32, first: u32) -> Generator {
    let far = match ground.contender {
        Contender::Wire => mac(&ground.container, "eth0"),
        _ => mac(&ground.host, "up0"),
    };
    Generator::new(
        &ground.client,
        "eth0",
        far,
        &Stream { fixed: to, outward: false, base: FLOWS, flows, first },
    )
}

/// Packets of the container to the flows' addresses.
pub(crate) fn from_container(ground: &Ground, src: ([u8; 4], u16), flows: u32, first: u32) -> Generator {
    let far = match ground.contender {
        Contender::Wire => mac(&ground.client, "eth0"),
        Contender::Netd => mac(&ground.host, "netd0"),
        Contender::Bare => mac(&ground.host, &ground.veth),
        _ => mac(&ground.host, "docker0"),
    };
    let stream = Stream { fixed: src, outward: true, base: FLOWS, flows, first };
    Generator::new(&ground.container, "eth0", far, &stream)
}
