//! Links between switches.

use lime_core::model::{Network, Place, Port};
use lime_proto::v1;
use tonic::Status;

use super::{LimeService, find_port, optional_port};

fn link_reply(network: &Network, a: &Port) -> Option<v1::Link> {
    let Place::Link(peer) = a.place else {
        return None;
    };
    let b = network.ports.get(&peer)?;
    let name = |p: &Port| network.switches.get(&p.switch).map(|s| s.name.clone());
    Some(v1::Link {
        network: network.name.clone(),
        switch_a: name(a)?,
        port_a: a.no.0,
        switch_b: name(b)?,
        port_b: b.no.0,
    })
}

impl LimeService {
    pub(super) async fn create_link(
        &self,
        request: v1::CreateLinkRequest,
    ) -> Result<v1::Link, Status> {
        let network = self.network(&request.network)?;
        let shared = self.shared.clone();
        let id = self
            .operate(&network, move |op| async move {
                let (name_a, name_b) = (request.switch_a, request.switch_b);
                let (a, b) = op
                    .network
                    .call(move |s| {
                        let (a, b) = (s.switch(&name_a)?.id, s.switch(&name_b)?.id);
                        if a == b {
                            return Err(Status::invalid_argument(format!(
                                "a link joins two switches, and {name_a} is both ends of this one"
                            )));
                        }
                        Ok((a, b))
                    })
                    .await??;
                shared.migrations.refuse_changes(op.network.id, [a, b])?;
                let ends = op
                    .create_link(
                        (a, optional_port(request.port_a)),
                        (b, optional_port(request.port_b)),
                    )
                    .await?;
                Ok(ends.0)
            })
            .await?;
        network
            .call(move |s| {
                let port = s.model.ports.get(&id);
                port.and_then(|p| link_reply(&s.model, p))
            })
            .await?
            .ok_or_else(|| Status::not_found("the link was deleted meanwhile"))
    }

    pub(super) async fn delete_link(
        &self,
        request: v1::DeleteLinkRequest,
    ) -> Result<v1::Empty, Status> {
        let network = self.network(&request.network)?;
        let shared = self.shared.clone();
        self.operate(&network, move |op| async move {
            let (port, other) = op
                .network
                .call(move |s| {
                    let port = find_port(&s.model, &request.switch_a, request.port_a)?;
                    let Place::Link(peer) = port.place else {
                        return Err(Status::failed_precondition(format!(
                            "port {} is no end of a link: delete it as a port",
                            s.model.port_name(&port)
                        )));
                    };
                    let other = s.model.ports.get(&peer).map(|p| p.switch);
                    Ok((port, (peer, other)))
                })
                .await??;
            let switches = [Some(port.switch), other.1];
            shared
                .migrations
                .refuse_changes(op.network.id, switches.into_iter().flatten())?;
            op.delete_link(port.id, other.0).await
        })
        .await?;
        Ok(v1::Empty {})
    }

    pub(super) async fn list_links(
        &self,
        request: v1::ListLinksRequest,
    ) -> Result<v1::ListLinksResponse, Status> {
        let mut links = Vec::new();
        for network in self.selected(&request.network)? {
            let some = network
                .call(|s| {
                    let ports = s.model.ports.values();
                    // Each link once, from its older end.
                    let first =
                        ports.filter(|p| matches!(p.place, Place::Link(peer) if p.id < peer));
                    first
                        .filter_map(|p| link_reply(&s.model, p))
                        .collect::<Vec<_>>()
                })
                .await?;
            links.extend(some);
        }
        Ok(v1::ListLinksResponse { links })
    }
}
