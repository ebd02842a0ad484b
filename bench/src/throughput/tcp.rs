//! TCP in bulk from one namespace to another: one connection, as much as passes.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lime_tests::lab::Netns;

use crate::site::inside;

/// What one read or write takes.
const CHUNK: usize = 256 << 10;
/// How long nothing may happen before the connection counts as dead.
const PATIENCE: Duration = Duration::from_secs(5);

/// Sends from `from` to `address` in `to`, and gives the Gb/s of payload that arrive in `time` after `warm_up`.
pub fn bulk(
    from: &Netns,
    to: &Netns,
    address: Ipv4Addr,
    warm_up: Duration,
    time: Duration,
) -> Result<f64> {
    let listener = inside(to, || TcpListener::bind((address, 0)))?
        .with_context(|| format!("cannot listen at {address} in {}", to.name()))?;
    let target = listener
        .local_addr()
        .context("the listener has no address")?;
    let source = inside(from, || TcpStream::connect_timeout(&target, PATIENCE))?
        .with_context(|| format!("cannot connect from {} to {target}", from.name()))?;
    // Connected, so it does not block.
    let (sink, peer) = listener.accept().context("cannot accept")?;
    transfer(source, sink, warm_up, time)
        .with_context(|| format!("TCP from {peer} in {} to {} failed", from.name(), to.name()))
}

/// A socket stays in the namespace that it was made in, so these threads can be anywhere.
fn transfer(source: TcpStream, sink: TcpStream, warm_up: Duration, time: Duration) -> Result<f64> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let sender = scope.spawn(|| send(source, &stop));
        let received = receive(&sink, warm_up, time);
        stop.store(true, Ordering::Relaxed);
        // Ends a write that the sender may be in, with an error.
        drop(sink);
        let sent = sender
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let rate = received?;
        sent?;
        Ok(rate)
    })
}

fn send(mut source: TcpStream, stop: &AtomicBool) -> Result<()> {
    source.set_write_timeout(Some(PATIENCE))?;
    let chunk = vec![0x5a; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        if let Err(e) = source.write(&chunk) {
            let closed = matches!(e.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
            if closed && stop.load(Ordering::Relaxed) || e.kind() == ErrorKind::Interrupted {
                continue;
            }
            return Err(e).context("the sender cannot go on");
        }
    }
    Ok(())
}

fn receive(mut sink: &TcpStream, warm_up: Duration, time: Duration) -> Result<f64> {
    sink.set_read_timeout(Some(PATIENCE))?;
    let mut chunk = vec![0; CHUNK];
    let mut until = |end: Duration| -> Result<(u64, Duration)> {
        let start = Instant::now();
        let mut bytes = 0;
        loop {
            let n = sink.read(&mut chunk).with_context(|| {
                format!("nothing arrived for {PATIENCE:?}, or the connection broke")
            })?;
            ensure!(n > 0, "the sender closed the connection");
            bytes += n as u64;
            if start.elapsed() >= end {
                return Ok((bytes, start.elapsed()));
            }
        }
    };
    until(warm_up)?;
    let (bytes, took) = until(time)?;
    Ok(gigabits(bytes, took))
}

fn gigabits(bytes: u64, time: Duration) -> f64 {
    bytes as f64 * 8.0 / 1e9 / time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gigabits_are_of_ten_to_the_nine() {
        assert_eq!(gigabits(1_250_000_000, Duration::from_secs(2)), 5.0);
    }

    #[test]
    fn bytes_pass_and_both_ends_stop() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let sink = listener.accept().unwrap().0;
        let rate = transfer(source, sink, Duration::ZERO, Duration::from_millis(20)).unwrap();
        assert!(rate > 0.0);
    }

    #[test]
    fn a_sender_that_goes_away_is_an_error() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let source = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let sink = listener.accept().unwrap().0;
        drop(source);
        let error = receive(&sink, Duration::ZERO, Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("closed"), "{error:#}");
    }
}
