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
    /// The actions of a set are run in the order in which rules have written them.
    SetInOrderOfWriting,
    /// Clear-actions does nothing.
    SetNotCleared,
    /// Write-metadata writes the bits outside its mask too.
    MetadataMaskIgnored,
    /// The IPv4 checksum does not follow a new TTL.
    TtlChecksumForgotten,
    /// IPv6 extension headers in an odd order are not told.
    ExtensionOrderIgnored,
    /// SCTP's checksum does not follow.
    SctpChecksumForgotten,
    /// A tunnel id that was set is lost at the next table.
    TunnelIdForgotten,
    /// Fast failover takes the first bucket, live or not.
    DeadBucketChosen,
    /// Select groups give all buckets the same share.
    WeightsIgnored,
    /// The buckets of a group of type all work on one packet, one after the other.
    BucketsShareThePacket,
    /// A change of a group holds one epoch too late.
    GroupChangesLate,
    /// An action set with a group outputs all the same.
    OutputBesideGroup,
    /// What a bucket sends to the controller has the cookie of the rule that ran the group.
    CookieOfBucket,
    /// Fragments are told by their ports, which only the first has.
    FragmentsByPorts,
    /// Of the bands whose rates are exceeded that with the lowest is applied.
    LowestBandApplied,
    /// A band raises the drop precedence by one level, whatever it says.
    PrecedenceByOne,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 22] = [
        Fault::PriorityReversed,
        Fault::DscpClearsEcn,
        Fault::PseudoHeaderForgotten,
        Fault::ValidToInclusive,
        Fault::OutputToIngress,
        Fault::InnerTagPopped,
        Fault::SetInOrderOfWriting,
        Fault::SetNotCleared,
        Fault::MetadataMaskIgnored,
        Fault::TtlChecksumForgotten,
        Fault::ExtensionOrderIgnored,
        Fault::SctpChecksumForgotten,
        Fault::TunnelIdForgotten,
        Fault::DeadBucketChosen,
        Fault::WeightsIgnored,
        Fault::BucketsShareThePacket,
        Fault::GroupChangesLate,
        Fault::OutputBesideGroup,
        Fault::CookieOfBucket,
        Fault::FragmentsByPorts,
        Fault::LowestBandApplied,
        Fault::PrecedenceByOne,
    ];
}
