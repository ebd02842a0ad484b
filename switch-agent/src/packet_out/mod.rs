//! Packet-outs: actions run in user space, and what they send goes to the data path as tunnel frames over the recirculation device.

mod frame;
mod held;
mod raw;
mod recent;
mod run;
mod waiting;

pub use frame::{InjectError, Injector, Tag};
pub use held::{HeldLimits, HeldPackets, Output};
pub use recent::RecentIds;
pub(crate) use run::cut;
pub use run::{Emit, PacketOutError, PortView, SwitchView, ToGroup, run};
pub use waiting::{WaitingPacket, WaitingPackets};
