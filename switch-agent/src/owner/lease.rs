//! The host's lease: how long packets of networks that others process too are processed here without a word from the coordinator
//! (consistency rule 17).
//!
//! The kernel programs compare a deadline with their own clock, so it holds too when the agent is stopped or dead. A lease counts from
//! the moment at which it was asked for, not from that of the answer, which may have been under way for long.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use lime_core::NetworkId;
use lime_proto::v1::{self, agent_message::Message};
use tracing::{error, info};

use super::Owner;
use crate::datapath::Datapath;
use crate::error::chain;

/// The lease is asked for so many times in its length.
const TIMES: u32 = 4;
/// Questions that may be without an answer.
const MAX_ASKED: usize = 16;

/// What is known of the lease.
#[derive(Debug, Default)]
pub(super) struct Lease {
    /// How long it is, at first; `None`: there is none, or the coordinator has not said.
    length: Option<Duration>,
    /// Where it ends.
    until: Option<Instant>,
    /// Questions: number, and when they were sent.
    asked: VecDeque<(u64, Instant)>,
    number: u64,
    /// When to ask again.
    next: Option<Instant>,
}

impl Lease {
    /// The greeting is sent.
    pub fn greeted(&mut self, now: Instant) {
        self.asked.clear();
        self.asked.push_back((0, now));
        self.number = 0;
        self.next = None;
    }

    /// The stream is closed: nothing is asked any more, and what was granted ends.
    pub fn closed(&mut self) {
        self.asked.clear();
        self.next = None;
    }

    /// The coordinator's answer. Whether anything has changed.
    pub fn granted(&mut self, number: u64, length: Duration, now: Instant) -> bool {
        let mut asked = self.asked.iter();
        let Some(sent) = asked.find(|(n, _)| *n == number).map(|(_, at)| *at) else {
            return false;
        };
        self.asked.retain(|(n, _)| *n > number);
        if length.is_zero() {
            *self = Self::default();
            return true;
        }
        let until = sent + length;
        self.until = Some(self.until.map_or(until, |u| u.max(until)));
        if self.length.is_none() || number == 0 {
            // Asked at once: that says that it is kept.
            self.next = Some(now);
        }
        self.length = Some(length);
        true
    }

    /// It is time to ask: the question's number.
    pub fn ask(&mut self, now: Instant) -> u64 {
        self.number += 1;
        if self.asked.len() == MAX_ASKED {
            self.asked.pop_front();
        }
        self.asked.push_back((self.number, now));
        self.next = self.length.map(|length| now + length / TIMES);
        self.number
    }

    /// Waits until it is time to ask. Safe to cancel.
    pub async fn due(&self) {
        match self.next {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            None => std::future::pending().await,
        }
    }
}

impl Owner {
    /// The coordinator's answer to question `number`, or to the greeting (0).
    pub(super) fn lease_granted(&mut self, number: u64, milliseconds: u64) {
        let length = Duration::from_millis(milliseconds);
        let first = self.lease.length.is_none();
        if number == 0
            && !length.is_zero()
            && let Err(error) = Datapath::check_leases()
        {
            // Not asked for, it is not counted on.
            error!(
                error = chain(&error),
                "this host cannot keep a lease: when it cannot be reached, updates wait for it"
            );
            return;
        }
        if !self.lease.granted(number, length, Instant::now()) {
            return;
        }
        if first && !length.is_zero() {
            info!(
                ?length,
                "packets of shared switches are processed under a lease"
            );
        }
        for id in self.networks.keys().copied().collect::<Vec<_>>() {
            self.write_lease(id);
        }
    }

    /// Asks for the lease to go on.
    pub(super) fn renew_lease(&mut self) {
        let number = self.lease.ask(Instant::now());
        self.outbox
            .push(Message::RenewLease(v1::RenewLease { number }));
    }

    /// Sets the deadline of one network, as far as it is known what has become of it.
    pub(super) fn write_lease(&mut self, id: NetworkId) {
        let session = self.outbox.session();
        let Some(network) = self.networks.get(&id) else {
            return;
        };
        let leased = network.config.as_ref().is_some_and(|(wire, _)| wire.leased);
        let until = self.lease.until.filter(|_| leased);
        // Others may have gone on without this host: a deadline is put off only when the coordinator has said on this stream what is to
        // be processed here. But where there is none there is one from now on.
        let described = network.described_on == session;
        let bound = self.datapath.is_leased(id).unwrap_or(false);
        if !described && (bound || until.is_none()) {
            return;
        }
        if let Err(error) = self.datapath.set_lease(id, until) {
            error!(network = %id, error = chain(&error), "the lease cannot be kept: the network stops when the one before ends");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: Duration = Duration::from_millis(900);

    #[test]
    fn rule_17_a_lease_counts_from_its_question() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut lease = Lease::default();
        lease.greeted(start);
        assert!(lease.granted(0, LENGTH, at(50)));
        assert_eq!(lease.until, Some(at(900)));
        assert_eq!(lease.next, Some(at(50)), "shows that it keeps it");
        assert_eq!(lease.ask(at(50)), 1);
        assert_eq!(lease.next, Some(at(275)));
        assert_eq!(lease.ask(at(275)), 2);
        // The process was stopped for a while; the answer is old.
        assert!(lease.granted(1, LENGTH, at(99_000)));
        assert_eq!(lease.until, Some(at(950)));
        assert!(!lease.granted(1, LENGTH, at(99_000)), "once");
        lease.closed();
        assert!(!lease.granted(2, LENGTH, at(99_000)), "of a stream before");
        assert_eq!(lease.until, Some(at(950)));
    }

    #[test]
    fn leases_can_be_off() {
        let start = Instant::now();
        let mut lease = Lease::default();
        lease.greeted(start);
        assert!(lease.granted(0, LENGTH, start));
        lease.greeted(start);
        assert!(lease.granted(0, Duration::ZERO, start));
        assert_eq!((lease.until, lease.next), (None, None));
    }
}
