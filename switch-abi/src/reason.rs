//! Why a packet was dropped: every drop is counted under exactly one of these, at the port where it happened.

/// Room for reasons in [`crate::PortCounters`].
pub const DROP_REASONS: usize = 32;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident = $value:literal, $name:literal;)+) => {
        /// Why a packet was dropped.
        #[repr(u32)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason { $($(#[doc = $doc])+ $variant = $value),+ }

        impl DropReason {
            /// All reasons, in the order of their index.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$variant),+];

            /// The name that users see, in kebab case.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$variant => $name),+ }
            }
        }

        $(const _: () = assert!($value < DROP_REASONS);)+
    };
}

reasons! {
    /// No rule matched and the table has no table-miss entry (OpenFlow 1.3.5, 5.4).
    TableMiss = 0, "table-miss";
    /// A rule matched whose actions output to nothing.
    RuleDrop = 1, "rule-drop";
    /// The frame is too short or contradicts itself.
    Malformed = 2, "malformed";
    /// The tunnel frame's sender is no member of the frame's network.
    UnknownPeer = 3, "unknown-peer";
    /// The tunnel frame's option is not one that this version understands.
    BadTunnelOption = 4, "bad-tunnel-option";
    /// The tunnel frame names a port that this host does not know.
    UnknownPort = 5, "unknown-port";
    /// The tunnel frame's clock tag is above what is staged here (consistency rule 3).
    TagAhead = 6, "tag-ahead";
    /// The tunnel frame's clock tag is older than the window of serial numbers (consistency rule 6).
    TagStale = 7, "tag-stale";
    /// The output port is administratively down or has no device.
    PortDown = 8, "port-down";
    /// The output port's host has no resolved next hop on the underlay.
    NoPath = 9, "no-path";
    /// The packet passed more switches, tables or hosts than the limit.
    HopLimit = 10, "hop-limit";
    /// The packet does not fit the output device.
    TooBig = 11, "too-big";
    /// No instance of the switch is reachable from this host.
    NoInstance = 12, "no-instance";
    /// The event ring was full: the controller does not hear of this packet.
    EventRingFull = 13, "event-ring-full";
    /// The kernel refused to change the packet's size.
    ResizeFailed = 14, "resize-failed";
    /// The kernel refused to clone or redirect the packet.
    RedirectFailed = 15, "redirect-failed";
    /// `output` to the port that the packet came in by.
    OutputToInPort = 16, "output-to-in-port";
    /// The clock word was contended past the retry limit.
    ClockContended = 17, "clock-contended";
    /// The set-field action does not fit the packet (no such header).
    BadSetField = 18, "bad-set-field";
    /// The port is attached to a switch that the agent has not enabled yet.
    SwitchDisabled = 19, "switch-disabled";
    /// The device is not a port of any switch.
    NotAPort = 20, "not-a-port";
    /// Its TTL ran out (OpenFlow 1.3.5, 5.12: decrement TTL).
    InvalidTtl = 21, "invalid-ttl";
    /// The group has no (live) bucket (OpenFlow 1.3.5, 5.6).
    NoBucket = 22, "no-bucket";
    /// A copy of a packet for a group that has changed meanwhile.
    GroupChanged = 23, "group-changed";
    /// The host has not reached the coordinator for longer than its lease (consistency rule 17).
    LeaseOver = 24, "lease-over";
    /// A meter's band dropped it (OpenFlow 1.3.5, 5.7).
    Metered = 25, "metered";
    /// The switch has sent its controller as much as it may: the controller does not hear of this packet.
    PacketInLimit = 26, "packet-in-limit";
    /// It would have matched a rule that is being removed as idle (consistency rule 14), and could not wait: too many do, or rules had already
    /// changed it, or a meter had passed it.
    Promised = 27, "promised";
    /// An output that was to wait for the coordinator (consistency rule 5) was too long for that, or there was no room for it.
    NotHeld = 28, "not-held";
}

/// Where on a port's way a drop happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropSide {
    /// The rules ask for it, or have no rule for the packet.
    Rules,
    /// On the way in, or while rules were run.
    In,
    /// On the way out.
    Out,
}

impl DropReason {
    /// What OpenFlow's port counters take it for (OpenFlow 1.3.5, 7.3.5.7: rx_dropped, tx_dropped).
    pub const fn side(self) -> DropSide {
        match self {
            DropReason::TableMiss | DropReason::RuleDrop | DropReason::OutputToInPort => {
                DropSide::Rules
            }
            DropReason::PortDown
            | DropReason::NoPath
            | DropReason::TooBig
            | DropReason::RedirectFailed => DropSide::Out,
            _ => DropSide::In,
        }
    }
}
