//! Settings of plain switches and ports, as an agent would get them from the coordinator.

use lime_core::model::PacketIns;
use lime_core::{Epoch, PortId, PortNo, SwitchId};
use switch_agent::datapath::{Place, PortSettings, SwitchSettings};

use crate::site::{STATION_MTU, Station};

/// A switch that processes packets here, at once and for good.
pub fn active(id: SwitchId) -> SwitchSettings {
    SwitchSettings {
        id,
        instance: true,
        join_epoch: Epoch::ZERO,
        retire_epoch: Epoch::ZERO,
        relay_host: None,
        hold: false,
        packet_ins: PacketIns::default(),
    }
}

/// Port `number` of a switch; its id is its number.
pub fn port(switch: SwitchId, number: u32, place: Place) -> PortSettings {
    PortSettings {
        id: PortId(number),
        switch,
        port_no: PortNo(number),
        place,
        down: false,
        dead: false,
        no_flood: false,
        mtu: STATION_MTU,
    }
}

/// A port with a station's cable in it.
pub fn local_port(switch: SwitchId, number: u32, station: &Station) -> PortSettings {
    port(
        switch,
        number,
        Place::Local {
            ifindex: station.ifindex,
        },
    )
}
