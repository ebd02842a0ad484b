//! Keeps starting new flows from inside to outside, one packet each, which the outside host echoes at once.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::lab::EndHost;

/// Port of the echo servers outside.
pub const PORT: u16 = 7000;
/// First source port; each flow takes the next.
const FIRST_SOURCE_PORT: u16 = 20_000;
/// How long a flow waits for its answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the prober saw.
#[derive(Clone, Debug, Default)]
pub struct ProberReport {
    /// Flows started.
    pub started: u64,
    /// Flows whose answer came.
    pub answered: u64,
    /// Longest time to an answer.
    pub slowest: Duration,
}

impl ProberReport {
    /// Adds another prober's numbers.
    pub fn add(&mut self, other: &Self) {
        self.started += other.started;
        self.answered += other.answered;
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// A running prober.
#[derive(Debug)]
pub struct Prober {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<ProberReport>>,
}

impl Prober {
    /// Starts one flow per `interval` from `host`, to each of `outside` in turn.
    pub fn start(host: &EndHost, outside: Vec<Ipv4Addr>, interval: Duration) -> io::Result<Self> {
        let stop = Arc::new(AtomicBool::new(false));
        let source = host.ipv4();
        let thread = host.run_in({
            let stop = stop.clone();
            move || probe(source, &outside, interval, &stop)
        })?;
        Ok(Self { stop, thread })
    }

    /// Tells it to start no more flows.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Starts no more flows, waits for the answers that are due, and reports.
    pub fn finish(self) -> io::Result<ProberReport> {
        self.stop();
        self.thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

struct Waiting {
    socket: UdpSocket,
    since: Instant,
}

fn probe(
    source: Ipv4Addr,
    outside: &[Ipv4Addr],
    interval: Duration,
    stop: &AtomicBool,
) -> io::Result<ProberReport> {
    let mut report = ProberReport::default();
    let mut waiting: VecDeque<Waiting> = VecDeque::new();
    let mut port = FIRST_SOURCE_PORT;
    let mut stopped: Option<Instant> = None;
    loop {
        if stopped.is_none() && stop.load(Ordering::Relaxed) {
            stopped = Some(Instant::now());
        }
        if stopped.is_none() && !outside.is_empty() {
            let target = outside[report.started as usize % outside.len()];
            if let Some(flow) = start_flow(source, port, target) {
                waiting.push_back(flow);
                report.started += 1;
            }
            port = port.checked_add(1).unwrap_or(FIRST_SOURCE_PORT);
        }
        waiting.retain(|w| {
            let answered = w.socket.recv(&mut [0; 16]).is_ok();
            if answered {
                report.answered += 1;
                report.slowest = report.slowest.max(w.since.elapsed());
            }
            !answered && w.since.elapsed() < PATIENCE
        });
        if stopped.is_some() && waiting.is_empty() {
            return Ok(report);
        }
        std::thread::sleep(interval);
    }
}

/// None: the port is taken, or there is no route just now.
fn start_flow(source: Ipv4Addr, port: u16, target: Ipv4Addr) -> Option<Waiting> {
    let socket = UdpSocket::bind((source, port)).ok()?;
    socket.connect(SocketAddr::new(target.into(), PORT)).ok()?;
    socket.set_nonblocking(true).ok()?;
    socket.send(&port.to_be_bytes()).ok()?;
    Some(Waiting {
        socket,
        since: Instant::now(),
    })
}
