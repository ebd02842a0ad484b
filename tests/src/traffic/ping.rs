//! Is there a way from one end host to another, and back?

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::echo::Echo;
use crate::lab::EndHost;

/// The port of the echo server that [`reach`] uses.
const PORT: u16 = 7;

/// What [`reach`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// An answer came.
    Yes {
        /// After this long.
        after: Duration,
    },
    /// None came in time.
    No,
}

impl Reached {
    /// Whether an answer came.
    pub fn yes(self) -> bool {
        matches!(self, Self::Yes { .. })
    }
}

/// Sends datagrams from `from` to an echo server in `to` (its address `target`), every 20 ms until one is answered or `deadline` has passed.
/// ARP or neighbour discovery is part of it. Call it from a thread that may block.
pub fn reach(
    from: &EndHost,
    to: &EndHost,
    target: IpAddr,
    deadline: Duration,
) -> io::Result<Reached> {
    let target = SocketAddr::new(target, PORT);
    let _echo = Echo::start(to, target)?;
    let any: IpAddr = if target.is_ipv4() {
        from.ipv4().into()
    } else {
        from.ipv6().into()
    };
    from.netns()
        .run(|| -> io::Result<Reached> {
            let socket = UdpSocket::bind((any, 0))?;
            socket.connect(target)?;
            socket.set_read_timeout(Some(Duration::from_millis(20)))?;
            let started = Instant::now();
            let mut buffer = [0; 64];
            while started.elapsed() < deadline {
                // An earlier attempt's failure (no neighbour, refused) is reported here; only the deadline counts.
                let _ = socket.send(b"lime?");
                if let Ok(5) = socket.recv(&mut buffer) {
                    return Ok(Reached::Yes {
                        after: started.elapsed(),
                    });
                }
            }
            Ok(Reached::No)
        })
        .and_then(|r| r)
}
