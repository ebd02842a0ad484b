//! Typed ids and numbers: never bare integers in a signature.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[doc = $doc:literal])+ $name:ident($inner:ty)) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);
    };
}

macro_rules! number {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id! {
    /// A tenant's network. Never 0.
    NetworkId(u32)
}
id! {
    /// A virtual switch, unique in the whole installation. Never 0.
    SwitchId(u32)
}
id! {
    /// A port, unique within its network. Never 0. It travels in tunnel frames.
    PortId(u32)
}
id! {
    /// A host that runs an agent. Never 0.
    HostId(u32)
}
id! {
    /// One installed rule; a rule that replaces another has another id. Never 0.
    RuleId(u64)
}
id! {
    /// A port number within a switch, as OpenFlow counts them: 1 to 0xffffff00, above are reserved ones.
    PortNo(u32)
}
number!(NetworkId);
number!(SwitchId);
number!(PortId);
number!(HostId);
number!(RuleId);

impl PortNo {
    /// Largest number of an ordinary port (OpenFlow 1.3.5, A.2.1, OFPP_MAX).
    pub const MAX: PortNo = PortNo(0xffff_ff00);
    /// OFPP_IN_PORT.
    pub const IN_PORT: PortNo = PortNo(0xffff_fff8);
    /// OFPP_TABLE.
    pub const TABLE: PortNo = PortNo(0xffff_fff9);
    /// OFPP_FLOOD.
    pub const FLOOD: PortNo = PortNo(0xffff_fffb);
    /// OFPP_ALL.
    pub const ALL: PortNo = PortNo(0xffff_fffc);
    /// OFPP_CONTROLLER.
    pub const CONTROLLER: PortNo = PortNo(0xffff_fffd);
    /// OFPP_LOCAL.
    pub const LOCAL: PortNo = PortNo(0xffff_fffe);

    /// Whether a port can have this number: that of an ordinary one, or LOCAL, of the port to the switch's own host (OpenFlow 1.3.5, 4.5).
    pub fn is_port(self) -> bool {
        (1..=Self::MAX.0).contains(&self.0) || self == Self::LOCAL
    }
}

impl fmt::Display for PortNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::LOCAL => f.pad("LOCAL"),
            Self(number) => number.fmt(f),
        }
    }
}

/// The text is neither a port's number nor LOCAL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no port number: 1 to 4294967040 (0xffffff00), or LOCAL")]
pub struct NotAPort;

impl FromStr for PortNo {
    type Err = NotAPort;

    fn from_str(text: &str) -> Result<Self, NotAPort> {
        if text.eq_ignore_ascii_case("local") {
            return Ok(Self::LOCAL);
        }
        let ordinary = |no: &u32| (1..=Self::MAX.0).contains(no);
        let number = text.parse().ok().filter(ordinary);
        number.map(PortNo).ok_or(NotAPort)
    }
}

/// An entry's number in a network's log: a 32-bit serial number (RFC 1982). 0 is "before the first".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Epoch(pub u32);

impl Epoch {
    /// Before the first entry.
    pub const ZERO: Epoch = Epoch(0);

    /// The next epoch. 0 is skipped when the numbers wrap, since it stands for "none" in rule bounds.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(match self.0.wrapping_add(1) {
            0 => 1,
            n => n,
        })
    }

    /// The epoch before: what [`next`](Self::next) makes this one of. Before the first there is [`ZERO`](Self::ZERO), and as the numbers wrap
    /// nothing tells 1 from the first, so that the one before it counts as 0 too: no entry has that number, and it is before 1 in serial order.
    #[must_use]
    pub fn previous(self) -> Epoch {
        Epoch(self.0.wrapping_sub(1))
    }

    /// Whether this epoch is at or before `other`, in serial-number order.
    pub fn le(self, other: Epoch) -> bool {
        (other.0.wrapping_sub(self.0) as i32) >= 0
    }

    /// Whether this epoch is before `other`, in serial-number order.
    pub fn lt(self, other: Epoch) -> bool {
        self != other && self.le(other)
    }

    /// The later of the two.
    #[must_use]
    pub fn max(self, other: Epoch) -> Epoch {
        if self.le(other) { other } else { self }
    }

    /// The earlier of the two.
    #[must_use]
    pub fn min(self, other: Epoch) -> Epoch {
        if self.le(other) { self } else { other }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
