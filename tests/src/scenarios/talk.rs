//! End hosts that say something now and then, and react to what they get: below their stacks, so that nobody else answers.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use lime_history::MARK;

use crate::lab::{END_HOST_DEVICE, EndHost};

/// A UDP packet between end hosts. Their addresses in it (`10.9.0.n`) are not those of their stacks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Destination, MAC `02:00:00:00:00:n`.
    pub to_mac: u8,
    /// Source, last byte of the MAC.
    pub from_mac: u8,
    /// Source, last byte of the IP address.
    pub from: u8,
    /// Destination, last byte of the IP address.
    pub to: u8,
    /// UDP source port.
    pub from_port: u16,
    /// UDP destination port.
    pub to_port: u16,
    /// DSCP.
    pub dscp: u8,
    /// What it says.
    pub words: [u64; 2],
}

/// Numbers of messages: no two of this process are alike.
static NEXT: AtomicU64 = AtomicU64::new(1);

const HEADERS: usize = 14 + 20 + 8;
const LENGTH: usize = HEADERS + 8 + 8 + 16;

impl Message {
    /// From one end host to another.
    pub fn new(from: u8, to: u8, words: [u64; 2]) -> Self {
        Self {
            to_mac: to,
            from_mac: from,
            from,
            to,
            from_port: 4000,
            to_port: 5000,
            dscp: 0,
            words,
        }
    }

    /// The answer to it.
    pub fn answer(&self, words: [u64; 2]) -> Self {
        Self {
            to_mac: self.from_mac,
            from_mac: self.to_mac,
            from: self.to,
            to: self.from,
            from_port: self.to_port,
            to_port: self.from_port,
            dscp: 0,
            words,
        }
    }

    /// As a frame, each time with another number.
    pub fn frame(&self) -> Vec<u8> {
        let mut f = vec![
            2,
            0,
            0,
            0,
            0,
            self.to_mac,
            2,
            0,
            0,
            0,
            0,
            self.from_mac,
            8,
            0,
        ];
        f.extend([
            0x45,
            self.dscp << 2,
            0,
            (LENGTH - 14) as u8,
            0,
            0,
            0x40,
            0,
            64,
            17,
            0,
            0,
        ]);
        f.extend([10, 9, 0, self.from, 10, 9, 0, self.to]);
        let sum: u32 = f[14..34]
            .chunks(2)
            .map(|c| u32::from(u16::from_be_bytes([c[0], c[1]])))
            .sum();
        let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
        f[24..26].copy_from_slice(&sum.to_be_bytes());
        f.extend(self.from_port.to_be_bytes());
        f.extend(self.to_port.to_be_bytes());
        // No checksum.
        f.extend([0, (LENGTH - 34) as u8, 0, 0]);
        f.extend(MARK);
        f.extend(NEXT.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        f.extend(self.words.iter().flat_map(|w| w.to_be_bytes()));
        f
    }

    /// Reads a frame. None: it is something else.
    pub fn parse(f: &[u8]) -> Option<Self> {
        let ours = f.len() >= LENGTH && f[12..14] == [8, 0] && f[14] == 0x45 && f[23] == 17;
        if !ours || f[HEADERS..HEADERS + 8] != *MARK {
            return None;
        }
        let port = |at: usize| u16::from_be_bytes([f[at], f[at + 1]]);
        let word = |at: usize| f[at..].first_chunk().map(|w| u64::from_be_bytes(*w));
        Some(Self {
            to_mac: f[5],
            from_mac: f[11],
            from: f[29],
            to: f[33],
            from_port: port(34),
            to_port: port(36),
            dscp: f[15] >> 2,
            words: [word(HEADERS + 16)?, word(HEADERS + 24)?],
        })
    }
}

/// An end host that talks, until it is dropped.
#[derive(Debug)]
pub struct Talker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Talker {
    /// Starts it. `say` is asked for what to send each time it gets something, and with nothing once in an interval.
    pub fn start(
        host: &EndHost,
        interval: Duration,
        mut say: impl FnMut(Option<Message>) -> Vec<Message> + Send + 'static,
    ) -> io::Result<Self> {
        let socket = host.netns().run(socket).and_then(|s| s)?;
        let stop = Arc::new(AtomicBool::new(false));
        let thread = host.run_in({
            let stop = stop.clone();
            move || {
                let mut due = Instant::now();
                while !stop.load(Ordering::Relaxed) {
                    let mut buffer = [0; 256];
                    let got = receive(&socket, &mut buffer, due);
                    let mut out = got.map(|m| say(Some(m))).unwrap_or_default();
                    if Instant::now() >= due {
                        out.extend(say(None));
                        due = Instant::now() + interval;
                    }
                    for message in out {
                        send(&socket, &message.frame());
                    }
                }
            }
        })?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// A packet socket for IPv4 at the end host's device.
fn socket() -> io::Result<OwnedFd> {
    let protocol = (libc::ETH_P_IP as u16).to_be();
    // SAFETY: plain system calls; the descriptor is owned from here on, and pointers are to values that outlive their calls.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let socket = OwnedFd::from_raw_fd(fd);
        let name = std::ffi::CString::new(END_HOST_DEVICE)?;
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = protocol;
        address.sll_ifindex = libc::if_nametoindex(name.as_ptr()) as i32;
        let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        if libc::bind(fd, (&raw const address).cast(), length) < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(socket)
    }
}

/// Waits for a message until then, but not much longer than a millisecond: until what was to be done may have changed.
fn receive(socket: &OwnedFd, buffer: &mut [u8], until: Instant) -> Option<Message> {
    let wait = until.saturating_duration_since(Instant::now());
    let mut poll = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    let time = libc::timespec {
        tv_sec: 0,
        tv_nsec: wait.min(Duration::from_millis(5)).as_nanos() as i64,
    };
    // SAFETY: pointers and lengths are of values that outlive the calls.
    let (length, kind) = unsafe {
        if libc::ppoll(&raw mut poll, 1, &raw const time, std::ptr::null()) <= 0 {
            return None;
        }
        let mut from: libc::sockaddr_ll = std::mem::zeroed();
        let mut size = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        let n = libc::recvfrom(
            socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
            0,
            (&raw mut from).cast(),
            &raw mut size,
        );
        (n, from.sll_pkttype)
    };
    let length = usize::try_from(length).ok()?;
    if kind == libc::PACKET_OUTGOING {
        return None;
    }
    Message::parse(&buffer[..length.min(buffer.len())])
}

fn send(socket: &OwnedFd, frame: &[u8]) {
    // SAFETY: pointer and length are of one slice. A frame that is not taken is one that was lost.
    unsafe { libc::send(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_through_and_no_two_are_alike() {
        let mut m = Message::new(1, 2, [7, 8]);
        m.dscp = 63;
        let (one, two) = (m.frame(), m.frame());
        assert_ne!(one, two);
        assert_eq!(Message::parse(&one), Some(m));
        assert_eq!(one.len(), LENGTH);
        assert_eq!(Message::parse(&one[..LENGTH - 1]), None);
        let a = lime_history::Packet::read(&one).unwrap();
        let b = lime_history::Packet::read(&two).unwrap();
        assert_eq!(a.shape, b.shape);
        assert_ne!(a.id, b.id);
    }
}
