//! Ways into the kernel programs, and out of them.

mod tap;
mod test_run;
mod veth;

use std::os::fd::{AsRawFd, RawFd};

pub use tap::Tap;
pub use test_run::{Program, Programs, Verdict};
pub use veth::Veth;

/// How frames come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By BPF_PROG_TEST_RUN: a system call that runs a program on a buffer. What a program clones leaves by taps.
    TestRun,
    /// By tap devices: what is written to one has gone all its way when the call returns.
    Tap,
    /// By veth pairs, whose far ends are packet sockets: as end hosts are attached.
    Veth,
}

impl Way {
    /// All, the fastest first.
    pub const ALL: [Way; 3] = [Way::TestRun, Way::Tap, Way::Veth];

    /// As `LIME_WAYS` has it.
    pub fn name(self) -> &'static str {
        match self {
            Way::TestRun => "test-run",
            Way::Tap => "tap",
            Way::Veth => "veth",
        }
    }

    /// Whether it can carry a frame that comes in.
    pub fn carries(self, frame: &[u8]) -> bool {
        match self {
            // At most a page with everything around it, tunnel headers included; more than an Ethernet header, and a whole one of IP.
            Way::TestRun => {
                let least = match frame.get(12..14) {
                    Some([0x08, 0x00]) => 14 + 20,
                    Some([0x86, 0xdd]) => 14 + 40,
                    _ => 15,
                };
                (least..=LARGEST_BUFFER).contains(&frame.len())
            }
            Way::Tap => true,
            Way::Veth => frame.len() > 14,
        }
    }
}

/// Frames longer than this do not go into BPF_PROG_TEST_RUN, with what may be put in front of them.
const LARGEST_BUFFER: usize = 3000;

/// Whether a TC program can be run on it as a buffer: Linux takes the outer tag of a frame that comes in out of its bytes, and not that of a buffer.
pub fn tc_takes(buffer: &[u8]) -> bool {
    !matches!(buffer[12..14], [0x81, 0] | [0x88, 0xa8])
}

/// A port's device.
pub enum Device {
    Tap(Tap),
    Veth(Veth),
}

impl Device {
    /// The index of the end that has the programs.
    pub fn ifindex(&self) -> u32 {
        match self {
            Device::Tap(tap) => tap.ifindex,
            Device::Veth(veth) => veth.ifindex,
        }
    }

    /// Lets a frame come in.
    pub fn send(&self, frame: &[u8]) {
        match self {
            Device::Tap(tap) => tap.send(frame),
            Device::Veth(veth) => veth.send(frame),
        }
    }

    /// The next frame that has left by it; there must be one.
    pub fn receive(&self) -> Vec<u8> {
        match self {
            Device::Tap(tap) => tap.receive(),
            Device::Veth(veth) => veth.receive(),
        }
    }
}

impl AsRawFd for Device {
    fn as_raw_fd(&self) -> RawFd {
        match self {
            Device::Tap(tap) => tap.as_raw_fd(),
            Device::Veth(veth) => veth.as_raw_fd(),
        }
    }
}

/// Which of these have a frame to read, by their place in the list.
pub fn ready(files: &[RawFd]) -> Vec<usize> {
    let mut polls: Vec<_> = files
        .iter()
        .map(|&fd| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        })
        .collect();
    // SAFETY: the pointer and the length are of one vector.
    let n = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as _, 0) };
    assert!(n >= 0, "poll works");
    let readable = polls
        .iter()
        .enumerate()
        .filter(|(_, poll)| poll.revents & libc::POLLIN != 0);
    readable.map(|(i, _)| i).collect()
}
