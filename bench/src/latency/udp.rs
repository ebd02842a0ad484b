//! Requests and responses: a client that waits for each response, and a server that sends back what it gets.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lime_tests::lab::Netns;

use crate::programs::stay_on_this_cpu;
use crate::site::inside;

/// Payload of a request and of a response, bytes.
const PAYLOAD: usize = 32;
/// How long a response may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(2);
/// Exchanges before those that count.
const WARM_UP: usize = 200;

/// Sends `count` requests from `from` to `address` in `to`, each when the one before was answered. Microseconds that each took.
///
/// Client and server share a CPU, so that a round trip is the work that it takes, and not how long another CPU takes to wake up.
pub fn exchange(from: &Netns, to: &Netns, address: Ipv4Addr, count: usize) -> Result<Vec<f64>> {
    let bind = |ns: &Netns, at: Ipv4Addr| -> Result<UdpSocket> {
        let socket = inside(ns, || UdpSocket::bind((at, 0)))?
            .with_context(|| format!("cannot bind a UDP socket to {at} in {}", ns.name()))?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(socket)
    };
    let server = bind(to, address)?;
    let client = bind(from, Ipv4Addr::UNSPECIFIED)?;
    client
        .connect(server.local_addr()?)
        .with_context(|| format!("cannot reach {address} from {}", from.name()))?;
    let stop = AtomicBool::new(false);
    // A thread of its own, since it stays on one CPU; the server is started from it, and so does too.
    thread::scope(|scope| {
        let run = scope.spawn(|| {
            stay_on_this_cpu()?;
            thread::scope(|scope| {
                let answers = scope.spawn(|| answer(&server, &stop));
                let times = ask(&client, count);
                stop.store(true, Ordering::Relaxed);
                // Ends the wait of the server; it may have ended by itself.
                let _ = client.send(&[0; PAYLOAD]);
                let answered = answers
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                let times = times?;
                answered?;
                Ok(times)
            })
        });
        run.join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn ask(client: &UdpSocket, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    let mut buffer = [0; PAYLOAD];
    for number in 0..(WARM_UP + count) as u64 {
        let mut request = [0x5a; PAYLOAD];
        request[..8].copy_from_slice(&number.to_be_bytes());
        let start = Instant::now();
        client.send(&request).context("cannot send a request")?;
        let length = client
            .recv(&mut buffer)
            .with_context(|| format!("request {number} was not answered within {PATIENCE:?}"))?;
        let took = start.elapsed();
        ensure!(buffer[..length] == request, "an answer to another request");
        if number >= WARM_UP as u64 {
            times.push(took.as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}

fn answer(server: &UdpSocket, stop: &AtomicBool) -> Result<()> {
    let mut buffer = [0; PAYLOAD];
    loop {
        let (length, from) = match server.recv_from(&mut buffer) {
            Ok(got) => got,
            Err(e) if e.kind() == ErrorKind::WouldBlock && !stop.load(Ordering::Relaxed) => {
                continue;
            }
            Err(_) if stop.load(Ordering::Relaxed) => return Ok(()),
            Err(e) => return Err(e).context("the server cannot go on"),
        };
        if stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        server
            .send_to(&buffer[..length], from)
            .context("cannot send a response")?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_is_timed_and_the_server_ends() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(server.local_addr().unwrap()).unwrap();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let answers = scope.spawn(|| answer(&server, &stop));
            let times = ask(&client, 50).unwrap();
            assert!(times.len() == 50 && times.iter().all(|t| *t > 0.0));
            stop.store(true, Ordering::Relaxed);
            client.send(&[0; PAYLOAD]).unwrap();
            answers.join().unwrap().unwrap();
        });
    }
}
