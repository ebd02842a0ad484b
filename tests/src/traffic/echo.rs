//! Answers datagrams at once.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::socket;
use crate::lab::EndHost;

/// A UDP echo server in an end host. Ends when dropped.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts the server. Its socket is bound when this returns.
    pub fn start(host: &EndHost, at: SocketAddr) -> io::Result<Self> {
        let socket = host.netns().run(|| UdpSocket::bind(at)).and_then(|r| r)?;
        socket::prepare(&socket)?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let stop = Arc::new(AtomicBool::new(false));
        let answered = Arc::new(AtomicU64::new(0));
        let thread = host.run_in({
            let (stop, answered) = (stop.clone(), answered.clone());
            move || {
                let mut buffer = [0; 2048];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((n, from)) = socket.recv_from(&mut buffer)
                        && socket.send_to(&buffer[..n], from).is_ok()
                    {
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })?;
        Ok(Self {
            stop,
            answered,
            thread: Some(thread),
        })
    }

    /// Datagrams answered so far.
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
