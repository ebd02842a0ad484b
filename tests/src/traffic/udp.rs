//! Sequence-numbered datagrams.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::FlowReport;
use super::series::{Origin, Series};
use super::socket::{self, Batch};
use crate::lab::EndHost;

/// How often a sender wakes. Its packets go in small bursts: waking for each would take the cores from what is measured.
const TICK: Duration = Duration::from_millis(2);
/// Packets that a sender that was not scheduled in time may catch up with per tick. More would fill a veth's ring of 256.
const CATCH_UP: u64 = 32;
/// After the last packet was sent, how long the receiver waits for stragglers after it last heard anything.
const QUIET: Duration = Duration::from_millis(1500);
/// Marks our datagrams.
const MAGIC: u32 = 0x4c49_4d45;

/// One flow.
#[derive(Clone, Debug)]
pub struct UdpSpec {
    /// What reports call it.
    pub name: String,
    /// Packets per second.
    pub rate: u32,
    /// UDP payload, bytes; at least 16.
    pub payload: usize,
    /// Destination port. The source port is the same.
    pub port: u16,
    /// Over IPv6.
    pub ipv6: bool,
}

/// A flow that runs.
#[derive(Debug)]
pub struct UdpFlow {
    name: String,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    /// What the receiver is to expect; u64::MAX while that is not known.
    expected: Arc<AtomicU64>,
    sender: JoinHandle<io::Result<u64>>,
    receiver: JoinHandle<io::Result<Received>>,
}

#[derive(Debug, Default)]
struct Received {
    distinct: u64,
    duplicated: u64,
    reordered: u64,
    next: u64,
    seen: Vec<u64>,
    series: Series,
}

impl UdpFlow {
    /// Starts sending. The receiver's socket is bound when this returns.
    pub fn start(spec: &UdpSpec, from: &EndHost, to: &EndHost, origin: Origin) -> io::Result<Self> {
        let address = |host: &EndHost| -> IpAddr {
            if spec.ipv6 {
                host.ipv6().into()
            } else {
                host.ipv4().into()
            }
        };
        let source = SocketAddr::new(address(from), spec.port);
        let target = SocketAddr::new(address(to), spec.port);
        let bind = |host: &EndHost, at: SocketAddr| -> io::Result<UdpSocket> {
            let socket = host.netns().run(|| UdpSocket::bind(at)).and_then(|r| r)?;
            socket::prepare(&socket)?;
            Ok(socket)
        };
        let receiver = bind(to, target)?;
        let sender = bind(from, source)?;
        receiver.connect(source)?;
        sender.connect(target)?;
        receiver.set_read_timeout(Some(Duration::from_millis(50)))?;

        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let expected = Arc::new(AtomicU64::new(u64::MAX));
        Ok(Self {
            name: spec.name.clone(),
            receiver: to.run_in({
                let expected = expected.clone();
                move || receive(&receiver, origin, &expected)
            })?,
            sender: from.run_in({
                let (stop, sent) = (stop.clone(), sent.clone());
                let (rate, payload) = (spec.rate.max(1), spec.payload.clamp(16, 1400));
                move || send(&sender, rate, payload, &stop, &sent)
            })?,
            stop,
            sent,
            expected,
        })
    }

    /// Packets sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Tells the sender to stop. [`UdpFlow::finish`] waits for it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops sending, waits for what is under way, and reports.
    pub fn finish(self) -> io::Result<(FlowReport, Series)> {
        self.stop();
        let sent = join(self.sender)?;
        self.expected.store(sent, Ordering::Release);
        let r = join(self.receiver)?;
        let report = FlowReport {
            name: self.name,
            proto: "udp".into(),
            sent,
            received: r.distinct,
            lost: sent.saturating_sub(r.distinct),
            duplicated: r.duplicated,
            reordered: r.reordered,
            longest_gap_ms: r.series.longest_gap().as_secs_f64() * 1e3,
            resets: 0,
        };
        Ok((report, r.series))
    }
}

pub(super) fn join<T>(thread: JoinHandle<io::Result<T>>) -> io::Result<T> {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn send(
    socket: &UdpSocket,
    rate: u32,
    payload: usize,
    stop: &AtomicBool,
    sent: &AtomicU64,
) -> io::Result<u64> {
    let mut packet = vec![0; payload];
    packet[..4].copy_from_slice(&MAGIC.to_be_bytes());
    let mut started = Instant::now();
    let mut due_from = 0;
    let mut number = 0u64;
    while !stop.load(Ordering::Relaxed) {
        let due = due_from + (started.elapsed().as_secs_f64() * f64::from(rate)) as u64;
        if due > number + CATCH_UP {
            // Too late to keep the rate: go on from here.
            started = Instant::now();
            due_from = number + CATCH_UP;
        }
        let burst = due.min(number + CATCH_UP) - number;
        for _ in 0..burst {
            packet[4..12].copy_from_slice(&number.to_be_bytes());
            match socket.send(&packet) {
                Ok(_) => number += 1,
                // Nobody bound yet or any more answers by ICMP, to an earlier packet; this one was not sent.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(e) if e.raw_os_error() == Some(libc::ENOBUFS) => break,
                Err(e) => return Err(e),
            }
        }
        sent.store(number, Ordering::Relaxed);
        std::thread::sleep(TICK);
    }
    Ok(number)
}

fn receive(socket: &UdpSocket, origin: Origin, expected: &AtomicU64) -> io::Result<Received> {
    let mut r = Received::default();
    let mut batch = Batch::new();
    let mut heard = Instant::now();
    loop {
        let mut any = false;
        for (at, data) in batch.receive(socket)? {
            any |= r.take(origin.at(at), data);
        }
        if any {
            heard = Instant::now();
            continue;
        }
        let expected = expected.load(Ordering::Acquire);
        if expected == u64::MAX {
            heard = Instant::now();
        } else if r.distinct >= expected || heard.elapsed() > QUIET {
            return Ok(r);
        }
    }
}

impl Received {
    fn take(&mut self, at: Duration, data: &[u8]) -> bool {
        let Some((magic, rest)) = data.split_first_chunk::<4>() else {
            return false;
        };
        let Some(number) = rest.first_chunk::<8>().map(|n| u64::from_be_bytes(*n)) else {
            return false;
        };
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        // A number that no sender can have reached is somebody else's datagram: it must not make us allocate.
        if u32::from_be_bytes(*magic) != MAGIC || word > 1 << 24 {
            return false;
        }
        if self.seen.len() <= word {
            self.seen.resize(word + 1, 0);
        }
        if self.seen[word] & bit != 0 {
            self.duplicated += 1;
            return true;
        }
        self.seen[word] |= bit;
        self.distinct += 1;
        if number < self.next {
            self.reordered += 1;
        } else {
            self.next = number + 1;
        }
        self.series.add(at, 1);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(number: u64) -> Vec<u8> {
        let mut p = MAGIC.to_be_bytes().to_vec();
        p.extend(number.to_be_bytes());
        p.extend([0; 4]);
        p
    }

    #[test]
    fn losses_copies_and_order_are_told_apart() {
        let mut r = Received::default();
        for n in [0, 1, 3, 2, 3, 5] {
            assert!(r.take(Duration::from_millis(n), &packet(n)));
        }
        assert_eq!((r.distinct, r.duplicated, r.reordered), (5, 1, 1));
    }

    #[test]
    fn foreign_datagrams_do_not_count() {
        let mut r = Received::default();
        assert!(!r.take(Duration::ZERO, b"hello, world"));
        assert!(!r.take(Duration::ZERO, &packet(u64::MAX)));
        assert!(!r.take(Duration::ZERO, b""));
        assert_eq!(r.distinct, 0);
    }
}
