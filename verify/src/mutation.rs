//! Rules of the protocol that can be taken out, each by itself. Production code has no switches for this: what is changed is the models of
//! hosts and network, and what the coordinator's shell passes on between them and the sequencer.

/// One rule taken out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutation {
    /// Rule 2: frames carry no tag.
    NoTags,
    /// Rule 2: a frame is delivered before the clock is raised.
    RaiseAfterDelivery,
    /// Rule 3: tags above what is staged are obeyed.
    NoTagCheck,
    /// Rule 1: the version is read, and the table looked up later at another.
    TwoClockReads,
    /// Rule 4: packets relayed to an instance carry no tag.
    UntaggedRelay,
    /// Rule 5: outputs beside a packet-in are not held.
    NoHeldOutputs,
    /// Rule 7: hosts without an instance are not sent the numbers.
    NoNumbersWithoutInstance,
    /// Rule 8: activated when one member has it staged.
    ActivateBeforeAllStaged,
    /// Rule 8: activated at the instances of the entry's switch only; the others count as having acknowledged.
    ActivateInstancesOnly,
    /// Rule 9: acknowledged before the grace period.
    AckBeforeGrace,
    /// Rule 9: acknowledged before the events are in the stream.
    EventsAfterAck,
    /// Rule 10: events go to the controller as they come.
    NoHoldBack,
    /// Rule 10: nobody waits for a retiring host.
    RetiringNotAwaited,
    /// Rule 11: packet-outs go past the stream, with no clock.
    PacketOutOutOfBand,
    /// Rule 12: barriers are answered at once.
    BarrierAtOnce,
    /// Rule 13: hosts report what they have counted, not what they had before the cut.
    CountsAfterCut,
    /// Rule 14: that a rule is idle is said, and not promised.
    NoPromise,
    /// Rule 14: voted before what was looked up earlier has been counted.
    VoteBeforeGrace,
    /// Rule 14: an agent that dies has promised nothing.
    PromiseLostAtRestart,
    /// Rule 14: removed when one instance has promised.
    NotAllVotes,
    /// Rule 14: a promise is not lifted.
    PromiseNotLifted,
    /// Rule 14: an instance that joins meanwhile is not asked.
    JoinBesideRound,
    /// Rule 15: an instance processes as soon as it has its snapshot.
    JoinAtOnce,
    /// Rule 15: a retired instance goes on.
    RetireIgnored,
    /// Rule 16: the clock is copied before the pause, and activations go on.
    ClockBeforePause,
    /// Rule 16: the clock is not raised before the resume, and activations go on.
    NoClockTransfer,
    /// Rule 17: the coordinator goes on without a host before its lease is over.
    ExcludedTooEarly,
    /// Rule 17: a host goes on after its lease.
    LeaseIgnored,
    /// Rule 17: a host that is back has a new lease before it is told what has become of its instances.
    LeaseAtGreeting,
    /// Rule 17: what a host did before it was excluded reaches the controller when it is back.
    EventsOfExcluded,
    /// Rule 18: a restarted agent begins with an older clock.
    ClockLostAtRestart,
    /// Rule 19: hosts hear of entries before the store has them.
    NoWriteAhead,
    /// Rule 19: events of before the recovery reach the controller.
    OldEventsAfterRecovery,
    /// Rules 16 and 19: a recovery activates while an end host may be heard at two places.
    RecoveryDuringMove,
    /// Rule 20: the network is causal, and one switch is looked for in real time.
    CausalOnly,
    /// Rule 20: nobody relays; the primary has the update first.
    NoRelay,
    /// Rule 20: the primary has the update before the others relay.
    PrimaryBeforeRelays,
    /// Rule 20: the others have the update before the primary is known to have it.
    OthersWithPrimary,
    /// Rules 20 and 21: a host processes again while packets that read the older clock are on their way through its switches.
    ProcessesBeforeGrace,
    /// Rules 19 and 20: after a crash of the coordinator another instance is the primary.
    AnotherPrimary,
}

impl Mutation {
    /// All of them.
    pub const ALL: [Mutation; 40] = [
        Mutation::NoTags,
        Mutation::RaiseAfterDelivery,
        Mutation::NoTagCheck,
        Mutation::TwoClockReads,
        Mutation::UntaggedRelay,
        Mutation::NoHeldOutputs,
        Mutation::NoNumbersWithoutInstance,
        Mutation::ActivateBeforeAllStaged,
        Mutation::ActivateInstancesOnly,
        Mutation::AckBeforeGrace,
        Mutation::EventsAfterAck,
        Mutation::NoHoldBack,
        Mutation::RetiringNotAwaited,
        Mutation::PacketOutOutOfBand,
        Mutation::BarrierAtOnce,
        Mutation::CountsAfterCut,
        Mutation::NoPromise,
        Mutation::VoteBeforeGrace,
        Mutation::PromiseLostAtRestart,
        Mutation::NotAllVotes,
        Mutation::PromiseNotLifted,
        Mutation::JoinBesideRound,
        Mutation::JoinAtOnce,
        Mutation::RetireIgnored,
        Mutation::ClockBeforePause,
        Mutation::NoClockTransfer,
        Mutation::ExcludedTooEarly,
        Mutation::LeaseIgnored,
        Mutation::LeaseAtGreeting,
        Mutation::EventsOfExcluded,
        Mutation::ClockLostAtRestart,
        Mutation::NoWriteAhead,
        Mutation::OldEventsAfterRecovery,
        Mutation::RecoveryDuringMove,
        Mutation::CausalOnly,
        Mutation::NoRelay,
        Mutation::PrimaryBeforeRelays,
        Mutation::OthersWithPrimary,
        Mutation::ProcessesBeforeGrace,
        Mutation::AnotherPrimary,
    ];

    /// The scenario that is about this rule.
    pub fn scenario(self) -> &'static str {
        match self {
            Mutation::NoTags
            | Mutation::RaiseAfterDelivery
            | Mutation::TwoClockReads
            | Mutation::ActivateBeforeAllStaged => "policy",
            Mutation::NoTagCheck => "forged",
            Mutation::UntaggedRelay | Mutation::NoNumbersWithoutInstance => "relay",
            Mutation::NoHeldOutputs => "hold",
            Mutation::ActivateInstancesOnly => "chain",
            Mutation::AckBeforeGrace
            | Mutation::EventsAfterAck
            | Mutation::NoHoldBack
            | Mutation::BarrierAtOnce => "events",
            Mutation::RetiringNotAwaited | Mutation::RetireIgnored => "retire",
            Mutation::PacketOutOutOfBand => "packet-out",
            Mutation::CountsAfterCut => "statistics",
            Mutation::NoPromise
            | Mutation::VoteBeforeGrace
            | Mutation::NotAllVotes
            | Mutation::PromiseNotLifted => "idle",
            Mutation::PromiseLostAtRestart => "idle-agent-crash",
            Mutation::JoinBesideRound => "idle-join",
            Mutation::JoinAtOnce => "join",
            Mutation::ClockBeforePause | Mutation::NoClockTransfer => "move-plug",
            Mutation::ExcludedTooEarly
            | Mutation::LeaseIgnored
            | Mutation::LeaseAtGreeting
            | Mutation::EventsOfExcluded => "cut-off",
            Mutation::ClockLostAtRestart => "agent-crash",
            Mutation::RecoveryDuringMove => "move-crash",
            Mutation::CausalOnly
            | Mutation::NoRelay
            | Mutation::PrimaryBeforeRelays
            | Mutation::OthersWithPrimary => "strict",
            Mutation::ProcessesBeforeGrace => "strict-chain",
            Mutation::AnotherPrimary => "strict-coordinator-crash",
            Mutation::NoWriteAhead | Mutation::OldEventsAfterRecovery => "coordinator-crash",
        }
    }
}
