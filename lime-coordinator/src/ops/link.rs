//! Links between switches are made and deleted.

use lime_core::model::{Place, Port};
use lime_core::{PortId, PortNo, SwitchId};
use tonic::Status;

use super::Operation;
use super::port::free_number;

/// Bytes that pass a link between switches of one network: it is no device, so only the ports at the edge limit packets.
const LINK_MTU: u32 = 65_535;

impl Operation {
    /// Makes a link, with a new port at each end.
    pub async fn create_link(
        &self,
        a: (SwitchId, Option<PortNo>),
        b: (SwitchId, Option<PortNo>),
    ) -> Result<(PortId, PortId), Status> {
        let since = self.shared.clock.now_ms();
        let ends = self
            .change(move |n| {
                let a_no = free_number(n, a.0, a.1)?;
                let b_no = free_number(n, b.0, b.1)?;
                let (a_id, b_id) = (n.take_port_id(), n.take_port_id());
                for (id, switch, no, peer) in [(a_id, a.0, a_no, b_id), (b_id, b.0, b_no, a_id)] {
                    let port = Port {
                        id,
                        switch,
                        no,
                        place: Place::Link(peer),
                        moving: None,
                        mtu: LINK_MTU,
                        no_flood: false,
                        external: false,
                        since,
                    };
                    n.ports.insert(id, port);
                }
                Ok::<_, Status>((a_id, b_id))
            })
            .await??;
        match self.configure_all().await {
            Ok(()) => Ok(ends),
            Err(e) => {
                self.drop_ports(vec![ends.0, ends.1]).await?;
                let _ = self.configure_connected().await;
                Err(e)
            }
        }
    }

    /// Deletes a link and the ports at its ends.
    pub async fn delete_link(&self, a: PortId, b: PortId) -> Result<(), Status> {
        self.drop_ports(vec![a, b]).await?;
        self.configure_connected().await
    }
}
