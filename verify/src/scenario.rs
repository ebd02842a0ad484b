//! What a small world consists of.

/// A command of the controller. Each is issued at most once, so its place in [`Scenario::commands`] names it.
#[derive(Clone, Debug)]
pub enum Command {
    /// Adds and removes rules of a switch.
    Update {
        /// The switch.
        switch: u8,
        /// Rules of [`Scenario::rules`].
        add: Vec<u8>,
        /// Rules of [`Scenario::rules`].
        remove: Vec<u8>,
    },
    /// A packet-out.
    Out {
        /// The switch.
        switch: u8,
        /// As if it had come in here.
        in_port: u8,
        /// The packet.
        kind: u8,
        /// Out by this port; `None`: through the table.
        to: Option<u8>,
    },
    /// Exact statistics of a rule (rule 13). In production each rule goes on as another version of itself; here an entry without contents
    /// stands for that, and hosts count by version.
    Cut(u8),
    /// The end of an idle rule (rule 14), which the coordinator decides in place of the controller; its reply is the flow-removed.
    Expire(u8),
    /// A barrier.
    Barrier,
    /// The commands behind it are issued when everything before is answered.
    Await,
}

/// A rule. The highest priority of a table that matches wins.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its switch.
    pub switch: u8,
    /// Higher wins.
    pub priority: u8,
    /// Which packets; `None`: all.
    pub kind: Option<u8>,
    /// Which ingress port; `None`: all.
    pub in_port: Option<u8>,
    /// Ports to output to, as bits.
    pub out: u8,
    /// A packet-in.
    pub controller: bool,
    /// Its table.
    pub table: u8,
    /// The packet goes on in this table, a later one.
    pub goto: Option<u8>,
}

/// Where a port leads.
#[derive(Clone, Copy, Debug)]
pub enum End {
    /// To an end host, which is on this host at first.
    Host(u8),
    /// To this port of another switch.
    Link(u8),
}

/// A port of a switch.
#[derive(Clone, Copy, Debug)]
pub struct Port {
    /// Its switch.
    pub switch: u8,
    /// Where it leads.
    pub end: End,
}

/// An end host.
#[derive(Clone, Debug)]
pub struct EndHost {
    /// Its port.
    pub port: u8,
    /// Kinds of packets that it sends when it likes, in this order.
    pub sends: Vec<u8>,
    /// It answers a packet of the first kind with one of the second.
    pub replies: Vec<(u8, u8)>,
}

/// What the operator does, one after the other.
#[derive(Clone, Copy, Debug)]
pub enum Operation {
    /// A host becomes a member.
    Member(u8),
    /// A host becomes an instance of a switch.
    Join {
        /// Which switch.
        switch: u8,
        /// Which host.
        host: u8,
    },
    /// An instance goes.
    Retire {
        /// Which switch.
        switch: u8,
        /// Which host.
        host: u8,
    },
    /// An end host moves, with its port.
    Move {
        /// Which port.
        port: u8,
        /// Where to.
        to: u8,
        /// It goes on sending by its old device until it has moved (the lab's end hosts); else it is paused, as a VM.
        plug: bool,
    },
}

/// A world, and how much may happen in it.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// Hosts; those from `members` on are no members at first.
    pub hosts: u8,
    /// Members at first.
    pub members: u8,
    /// By switch: where it runs at first.
    pub instances: Vec<Vec<u8>>,
    /// All ports of all switches; at most 8.
    pub ports: Vec<Port>,
    /// End hosts; at most 8.
    pub ends: Vec<EndHost>,
    /// All rules that there ever are.
    pub rules: Vec<Rule>,
    /// Rules from the beginning.
    pub initial: Vec<u8>,
    /// All commands that there ever are.
    pub commands: Vec<Command>,
    /// What the controller issues by itself, in this order.
    pub script: Vec<u8>,
    /// What it issues on the first packet-in of a kind.
    pub reactions: Vec<(u8, Vec<u8>)>,
    /// What the operator does.
    pub operations: Vec<Operation>,
    /// Tunnel frames that may be lost.
    pub losses: u8,
    /// Agents that may die, in all. They come back.
    pub agent_crashes: u8,
    /// Streams between agents and coordinator that may break, in all.
    pub cuts: u8,
    /// Hosts that may be cut off from the coordinator for so long that it goes on without them, in all. They come back.
    pub partitions: u8,
    /// Times that the coordinator may die. It comes back.
    pub coordinator_crashes: u8,
    /// Frames with a tag of the future that may come to this host.
    pub forgeries: u8,
    /// This host refuses to stage this rule.
    pub refuses: Option<(u8, u8)>,
    /// Rounds of votes (rule 14) about the rule of [`Command::Expire`].
    pub rounds: u8,
    /// The network is strict, and one switch is looked for that acts in real time.
    pub strict: bool,
    /// Events stay in the ring until the agent reads it; else they are in its stream at once.
    pub ring: bool,
}

impl Scenario {
    /// The rule of a table that a packet meets, of those that are there.
    pub fn best(
        &self,
        table: u8,
        switch: u8,
        kind: u8,
        in_port: u8,
        there: impl Fn(u8) -> bool,
    ) -> Option<u8> {
        let rules = (0u8..).zip(&self.rules).filter(|(i, r)| {
            r.switch == switch
                && r.table == table
                && r.kind.is_none_or(|k| k == kind)
                && r.in_port.is_none_or(|p| p == in_port)
                && there(*i)
        });
        let best = rules.max_by_key(|(_, r)| r.priority);
        best.map(|(i, _)| i)
    }

    /// A rule, and those of later tables that a packet meets then.
    pub fn from(&self, first: u8, kind: u8, in_port: u8, there: impl Fn(u8) -> bool) -> Vec<u8> {
        let switch = self.rules[usize::from(first)].switch;
        let mut met = Vec::new();
        let mut next = Some(first);
        while let Some(rule) = next {
            met.push(rule);
            let table = self.rules[usize::from(rule)].goto;
            next = table.and_then(|t| self.best(t, switch, kind, in_port, &there));
        }
        met
    }

    /// What rules do together with a packet that came in by this port: ports, packet-in.
    pub fn does(&self, met: &[u8], in_port: u8) -> (u8, bool) {
        let rules = met.iter().map(|&r| &self.rules[usize::from(r)]);
        let (out, controller) = rules.fold((0, false), |(out, controller), r| {
            (out | r.out, controller || r.controller)
        });
        (out & !(1 << in_port), controller)
    }

    /// Whether what hosts count is of interest.
    pub fn counts(&self) -> bool {
        let counted = |c: &Command| matches!(c, Command::Cut(_) | Command::Expire(_));
        self.commands.iter().any(counted)
    }

    /// The rule that has an idle timeout, if there is one, and the command that is its end.
    pub fn idle(&self) -> Option<(u8, u8)> {
        let mut commands = self.commands.iter().zip(0..);
        commands.find_map(|(c, i)| match c {
            Command::Expire(rule) => Some((*rule, i)),
            _ => None,
        })
    }
}
