//! A tunnel between two hosts: an interface on each of them whose packets have no link-layer header, as those of WireGuard.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, poll};
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::netns::Netns;

/// How often the wire looks whether it is to stop, milliseconds.
const STEP: u16 = 50;

/// A tunnel. Its interfaces go with it.
#[derive(Debug)]
pub struct Tunnel {
    stop: Arc<AtomicBool>,
    wire: Option<JoinHandle<()>>,
}

impl Tunnel {
    /// Makes an interface of this name on both hosts, and carries packets between them.
    #[track_caller]
    pub fn between(hosts: [&Netns; 2], name: &str) -> Self {
        let ends = hosts.map(|host| {
            let end = host.run(|| DeviceBuilder::new().name(name).build_sync()).expect("a tun device");
            end.set_nonblocking(true).expect("nonblocking");
            end
        });
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        Self { stop, wire: Some(std::thread::spawn(move || carry(&ends, &theirs))) }
    }
}

/// Carries packets until it is told to stop. What an end does not take is lost, as on any wire.
fn carry(ends: &[SyncDevice; 2], stop: &AtomicBool) {
    let mut packet = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        let mut waits = ends.each_ref().map(|end| PollFd::new(end.as_fd(), PollFlags::POLLIN));
        let _interrupted = poll(&mut waits, STEP);
        for (from, to) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
            while let Ok(len @ 1..) = from.recv(&mut packet) {
                let _lost = to.send(&packet[..len]);
            }
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(wire) = self.wire.take() {
            let _ended = wire.join();
        }
    }
}
