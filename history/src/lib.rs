//! Decides whether one switch could have shown what the end hosts and controllers of a live network saw.
//!
//! A [`History`] is what each observer saw, in its own order: every end host the packets that it sent and got, every control channel the commands
//! that went out by it and the events and answers that came back. [`check`] looks for a run of ordinary switches (one for each switch of the
//! network) that would have shown just that: they handle one packet at a time and take commands one at a time, in the order of their epochs (those of one epoch in the
//! order in which they were given);
//! the network between them may lose and reorder packets, but not double them.
//!
//! Tables change by updates, and by rules whose end is told. So the place of a packet in such a run is a *version*: the number of updates before it. What a switch does with a
//! packet at a version says the reference switch. What was seen of the packet (it came out there, the controller was told) leaves some
//! versions, and the orders of the observers bound them:
//!
//! - a packet is handled at no lower version than any packet that its sender had got before;
//! - the packets that a switch tells the controller of are handled in the order in which it tells;
//! - an update is behind all packets that its controller had been told of when it gave it;
//! - what is told, and what is sent, after the answer to an update is at least of its version;
//! - a packet-out is between the commands before and behind it in its channel.
//!
//! All of these are lower bounds but for the places of commands, which are known. So each packet is given the least version that is left to it, in
//! an order in which all that bounds it comes before it. If that fails, nothing succeeds, and the bounds that led there are the proof
//! ([`Contradiction`]).
//!
//! What cannot be known is given the benefit of the doubt: updates whose answer was lost may have happened, rules with timeouts whose end is not told
//! may be gone, watched ports may be live or not, and meters may let packets pass, change them as their bands say, or drop them. Nothing here
//! reads a clock or a socket.

mod check;
mod contradiction;
mod headers;
mod maybe;
mod outcomes;
mod packet;
mod real_time;
mod record;
mod replay;
mod steps;
mod tables;

pub use check::check;
pub use contradiction::Contradiction;
pub use packet::{MARK, Packet, PacketId};
pub use record::{
    Answer, Channel, Command, EndHost, History, Leads, Nanos, Port, Removed, Seen, ShapeId, Shapes,
    Summary, Told, What,
};

#[cfg(test)]
mod tests;
