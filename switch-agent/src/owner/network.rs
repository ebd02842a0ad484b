//! What the owner knows of one network beside what is in the data path.

use std::collections::{BTreeMap, BTreeSet};

use lime_core::flow::Rule;
use lime_core::{Epoch, PortId, RuleId, SwitchId};
use lime_proto::v1;

use crate::packet_out::{PortView, SwitchView};
use crate::reconcile::{DesiredNetwork, DesiredPlace};

/// One network.
#[derive(Debug, Default)]
pub(super) struct Network {
    /// What is in force, as it came and as it was understood; `None`: adopted from the kernel, and not described yet.
    pub config: Option<(v1::Configure, DesiredNetwork)>,
    /// The stream that it was described on by the coordinator itself; 0: none.
    pub described_on: u64,
    /// Ports that are devices of this host.
    pub locals: BTreeMap<PortId, Local>,
    /// Switches of which all rules are here.
    pub instances: BTreeSet<SwitchId>,
    /// All members are past this epoch: rule versions that ended by then may go when their room is needed.
    pub past: Epoch,
    /// Rules whose last counts are to be reported when their end is acknowledged, by its epoch.
    pub reports: Vec<(Epoch, RuleId)>,
    /// This stream has not heard of rules that have ended: all of them are to be reported.
    pub report_all: bool,
    /// A stage of which not all parts are here.
    pub staging: Option<PartialStage>,
    /// A stage of several parts was refused, and its last part has not come yet.
    pub refused: bool,
    /// The same for a snapshot: its request.
    pub refused_snapshot: Option<u64>,
    /// The switch whose snapshot is under way.
    pub snapshot: Option<SwitchId>,
}

/// A port that is a device of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Local {
    /// The device's index; `None`: it is missing.
    pub ifindex: Option<u32>,
    /// Up and with carrier.
    pub up: bool,
    /// The device's MTU, bytes.
    pub mtu: u32,
}

/// Parts of a stage.
#[derive(Debug, Default)]
pub(super) struct PartialStage {
    pub epoch: Epoch,
    pub switch: Option<SwitchId>,
    pub add: Vec<(RuleId, Rule)>,
    pub remove: Vec<RuleId>,
    pub report: Vec<RuleId>,
}

impl Network {
    /// What is in force.
    pub fn desired(&self) -> Option<&DesiredNetwork> {
        self.config.as_ref().map(|(_, desired)| desired)
    }

    /// The switch for outputs; `None`: there is no such switch.
    pub fn view(&self, switch: SwitchId) -> Option<SwitchView> {
        let desired = self.desired()?;
        desired.switches.get(&switch)?;
        let mut ports: Vec<_> = desired
            .ports
            .values()
            .filter(|p| p.switch == switch)
            .map(|p| PortView {
                id: p.id,
                number: p.number,
                link: match p.place {
                    DesiredPlace::Link(other) => Some(other),
                    _ => None,
                },
                no_flood: p.no_flood,
            })
            .collect();
        ports.sort_by_key(|p| p.number);
        Some(SwitchView { ports })
    }
}
