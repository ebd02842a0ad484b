//! End hosts that talk all the time, and pass on what they hear.

use std::time::Duration;

use super::random::Random;
use crate::lab::Lab;
use crate::scenarios::{Message, Talker};

/// Between what an end host says of its own.
const INTERVAL: Duration = Duration::from_millis(3);
/// How often something is passed on.
const HOPS: u64 = 4;

pub(super) fn start(lab: &Lab, random: &mut Random) -> std::io::Result<Vec<Talker>> {
    let start = |(host, n): (&crate::lab::EndHost, u8)| {
        let mut random = random.fork();
        Talker::start(host, INTERVAL, move |got| {
            let hops = match got {
                None => 0,
                Some(m) if m.words[0] + 1 < HOPS => m.words[0] + 1,
                Some(_) => return Vec::new(),
            };
            // Rules ask for the port by which it comes in, and for this.
            let mut message = Message::new(n, 1 + random.below(4) as u8, [hops, 0]);
            message.to_port = 5000 + random.below(2) as u16;
            vec![message]
        })
    };
    lab.end_hosts().iter().zip(1..).map(start).collect()
}
