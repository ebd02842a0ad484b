//! The model of one network: what its owner wants, and how far the hosts have been brought there.
//!
//! [`Network`] is data that goes into the store as a whole; [`desired`] derives from it what each host is told; [`RuleBook`] has the rules.

mod change;
mod desired;
mod exclusion;
mod network;
mod outside;
mod relay;
mod rules;

pub use change::*;
pub use desired::*;
pub use exclusion::*;
pub use network::*;
pub use outside::*;
pub use relay::*;
pub use rules::*;
