//! Mistakes that can be planted, to see that a comparison finds them.

/// A mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The lowest priority wins.
    PriorityReversed,
    /// Setting the DSCP clears the ECN bits beside it.
    DscpClearsEcn,
    /// Checksums with a pseudo-header do not follow new addresses.
    PseudoHeaderForgotten,
    /// A rule is visible one epoch too long.
    ValidToInclusive,
    /// A packet goes back out by the port that it came in by, if a rule names that port.
    OutputToIngress,
    /// Popping a tag takes the inner one.
    InnerTagPopped,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 6] = [
        Fault::PriorityReversed,
        Fault::DscpClearsEcn,
        Fault::PseudoHeaderForgotten,
        Fault::ValidToInclusive,
        Fault::OutputToIngress,
        Fault::InnerTagPopped,
    ];
}
