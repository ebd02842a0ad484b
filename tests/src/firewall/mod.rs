//! The reactive firewall of the LIME paper, as a tenant's controller over gRPC, and the traffic that tries it.
//!
//! Inside hosts may talk to outside hosts; outside hosts may only answer. A packet from inside that no rule matches goes to the
//! controller ([`App`]), which first installs the rule for the answers and then releases the packet. So no answer can ever meet a switch
//! without its rule, on one switch. An answer that does is a **violation**: it proves that the network does not behave as one switch does.
//! The application takes it for an attack and blocks the outside host.
//!
//! [`Prober`] keeps starting new flows, each of which has to go all that way.

mod app;
mod packet;
mod prober;

pub use app::{App, AppReport, Policy};
pub use packet::UdpPacket;
pub use prober::{PORT as PROBE_PORT, Prober, ProberReport};

/// Cookie of the rule that sends packets from inside without a rule to the controller.
pub const COOKIE_NEW: u64 = 0x1000_0001;
/// Cookie of the rule that sends packets from outside without a rule to the controller: violations.
pub const COOKIE_VIOLATION: u64 = 0x1000_0002;
/// Cookie of the rules for answers.
pub const COOKIE_RETURN: u64 = 0x1000_0003;
/// Cookie of the rules that block an outside host.
pub const COOKIE_BLOCK: u64 = 0x1000_0004;
