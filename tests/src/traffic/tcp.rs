//! TCP streams of numbered records whose content the receiver verifies.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::FlowReport;
use super::series::{Origin, Series};
use super::udp::join;
use crate::lab::EndHost;

/// Bytes of a record.
pub const RECORD: usize = 1024;
/// How often a sender wakes.
const TICK: Duration = Duration::from_millis(5);
/// How long a sender that was told to stop, and then the receiver, may take to get the rest through.
const FINISH: Duration = Duration::from_secs(4);

/// One stream.
#[derive(Clone, Debug)]
pub struct TcpSpec {
    /// What reports call it.
    pub name: String,
    /// Records of 1,024 bytes per second; 0: as fast as it goes.
    pub rate: u32,
    /// Port of the receiving end.
    pub port: u16,
    /// Over IPv6.
    pub ipv6: bool,
}

/// A stream that runs.
#[derive(Debug)]
pub struct TcpFlow {
    name: String,
    source_port: u16,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicBool>,
    sender: JoinHandle<io::Result<Sent>>,
    receiver: JoinHandle<io::Result<Received>>,
}

#[derive(Debug, Default)]
struct Sent {
    records: u64,
    reset: bool,
}

#[derive(Debug, Default)]
struct Received {
    records: u64,
    wrong: u64,
    closed: bool,
    series: Series,
}

impl TcpFlow {
    /// Connects and starts to send.
    pub fn start(spec: &TcpSpec, from: &EndHost, to: &EndHost, origin: Origin) -> io::Result<Self> {
        let address = |host: &EndHost| -> IpAddr {
            if spec.ipv6 {
                host.ipv6().into()
            } else {
                host.ipv4().into()
            }
        };
        let target = SocketAddr::new(address(to), spec.port);
        let listener = to
            .netns()
            .run(|| TcpListener::bind(target))
            .and_then(|r| r)?;
        let stream = from
            .netns()
            .run(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)))
            .and_then(|r| r)?;
        let source_port = stream.local_addr()?.port();
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(Duration::from_millis(200)))?;
        let (accepted, _) = listener.accept()?;
        accepted.set_read_timeout(Some(Duration::from_millis(100)))?;

        let stop = Arc::new(AtomicBool::new(false));
        let done = Arc::new(AtomicBool::new(false));
        Ok(Self {
            name: spec.name.clone(),
            source_port,
            receiver: to.run_in({
                let done = done.clone();
                move || Ok(receive(accepted, origin, &done))
            })?,
            sender: from.run_in({
                let (stop, rate) = (stop.clone(), spec.rate);
                move || Ok(send(stream, rate, &stop))
            })?,
            stop,
            done,
        })
    }

    /// Port of the sending end.
    pub fn source_port(&self) -> u16 {
        self.source_port
    }

    /// Tells the sender to stop. [`TcpFlow::finish`] waits for it.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Stops sending, closes the connection in good order, and reports.
    pub fn finish(self) -> io::Result<(FlowReport, Series)> {
        self.stop();
        let sent = join(self.sender)?;
        self.done.store(true, Ordering::Relaxed);
        let r = join(self.receiver)?;
        let report = FlowReport {
            name: self.name,
            proto: "tcp".into(),
            sent: sent.records,
            received: r.records,
            lost: sent.records.saturating_sub(r.records),
            duplicated: r.wrong,
            reordered: 0,
            longest_gap_ms: r.series.longest_gap().as_secs_f64() * 1e3,
            resets: u64::from(sent.reset || !r.closed),
        };
        Ok((report, r.series))
    }
}

/// Record `number`: its number, over and over, so that a shift by any amount shows.
fn record(number: u64) -> [u8; RECORD] {
    let mut bytes = [0; RECORD];
    for (i, chunk) in bytes.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(
            &(number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ i as u64).to_be_bytes(),
        );
    }
    bytes
}

fn send(mut stream: TcpStream, rate: u32, stop: &AtomicBool) -> Sent {
    let started = Instant::now();
    let mut sent = Sent::default();
    let mut deadline = None;
    while !stop.load(Ordering::Relaxed) {
        let due = match rate {
            0 => sent.records + 64,
            rate => {
                ((started.elapsed().as_secs_f64() * f64::from(rate)) as u64).min(sent.records + 256)
            }
        };
        while sent.records < due {
            if stop.load(Ordering::Relaxed) && sent.records > 0 {
                break;
            }
            if !write_record(&mut stream, sent.records, stop, &mut deadline) {
                sent.reset = true;
                return sent;
            }
            sent.records += 1;
        }
        if rate != 0 {
            std::thread::sleep(TICK);
        }
    }
    sent.reset = stream.shutdown(Shutdown::Write).is_err();
    sent
}

/// Writes all of a record. False: the connection is broken, or does not move although it is time to stop.
fn write_record(
    stream: &mut TcpStream,
    number: u64,
    stop: &AtomicBool,
    deadline: &mut Option<Instant>,
) -> bool {
    let bytes = record(number);
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        match stream.write(rest) {
            Ok(n) => rest = &rest[n..],
            Err(e) if is_timeout(&e) => {
                if stop.load(Ordering::Relaxed) {
                    let end = *deadline.get_or_insert_with(|| Instant::now() + FINISH);
                    if Instant::now() > end {
                        return false;
                    }
                }
            }
            Err(_) => return false,
        }
    }
    true
}

fn receive(mut stream: TcpStream, origin: Origin, done: &AtomicBool) -> Received {
    let mut r = Received::default();
    let mut buffer = vec![0; 64 * RECORD];
    let mut filled = 0;
    let mut deadline = None;
    loop {
        match stream.read(&mut buffer[filled..]) {
            Ok(0) => {
                r.closed = filled == 0;
                return r;
            }
            Ok(n) => {
                filled += n;
                let whole = filled / RECORD;
                for bytes in buffer[..whole * RECORD].chunks_exact(RECORD) {
                    if bytes != record(r.records + r.wrong) {
                        r.wrong += 1;
                    } else {
                        r.records += 1;
                    }
                }
                buffer.copy_within(whole * RECORD..filled, 0);
                filled -= whole * RECORD;
                r.series.add(origin.elapsed(), whole as u32);
            }
            Err(e) if is_timeout(&e) => {}
            Err(_) => return r,
        }
        if done.load(Ordering::Relaxed) {
            let end = *deadline.get_or_insert_with(|| Instant::now() + FINISH);
            if Instant::now() > end {
                return r;
            }
        }
    }
}

fn is_timeout(e: &io::Error) -> bool {
    matches!(
        e.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_differ_in_every_word() {
        let (a, b) = (record(1), record(2));
        assert!(
            a.chunks_exact(8)
                .zip(b.chunks_exact(8))
                .all(|(a, b)| a != b)
        );
        assert!(a[8..] != a[..RECORD - 8], "a shift by one word shows");
    }
}
