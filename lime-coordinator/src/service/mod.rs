//! The gRPC services for operators, tenants and controllers: requests become operations, errors become status codes.

mod bundles;
mod control;
mod describe;
mod events;
mod groups;
mod hosts;
mod links;
mod meters;
mod migrations;
mod networks;
mod ports;
mod rules;
mod statistics;
mod switches;

use std::pin::Pin;
use std::sync::Arc;

use futures_util::Stream;
use lime_core::model::{Network, Port, is_excluded};
use lime_core::{PortNo, check_name};
use lime_proto::v1;
use tonic::{Request, Response, Status};

use crate::agents::Hosts;
use crate::network::{Handle, State};
use crate::ops::Operation;
use crate::shared::Shared;

pub use control::ControlService;
pub use statistics::StatisticsService;

/// Serves [`v1::lime_server::Lime`].
#[derive(Debug)]
pub struct LimeService {
    shared: Arc<Shared>,
}

impl LimeService {
    /// On the coordinator's state.
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    fn network(&self, name: &str) -> Result<Handle, Status> {
        self.shared.network(name)
    }

    /// Runs an operation to its end, also when the caller goes away in the middle: nothing stays half-done.
    async fn operate<R, F>(
        &self,
        network: &Handle,
        f: impl FnOnce(Operation) -> F + Send + 'static,
    ) -> Result<R, Status>
    where
        R: Send + 'static,
        F: Future<Output = Result<R, Status>> + Send + 'static,
    {
        let (shared, network) = (Arc::clone(&self.shared), network.clone());
        let task = self.shared.tasks.spawn(async move {
            let turn = Arc::clone(&network.ops);
            let _turn = turn.lock().await;
            f(Operation::new(&shared, &network)).await
        });
        let gone = |_| Status::unavailable("the coordinator is stopping");
        task.await.map_err(gone)?
    }
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn invalid(error: impl std::fmt::Display) -> Status {
    Status::invalid_argument(error.to_string())
}

fn checked_name(what: &'static str, name: &str) -> Result<(), Status> {
    check_name(what, name).map_err(invalid)
}

/// A port by its number, or why not.
fn find_port(network: &Network, switch: &str, no: u32) -> Result<Port, Status> {
    let of = network.switch_named(switch).ok_or_else(|| {
        Status::not_found(format!("switch {}/{switch} does not exist", network.name))
    })?;
    let port = network.port_at(of.id, PortNo(no)).cloned();
    port.ok_or_else(|| {
        Status::not_found(format!(
            "port {}/{switch}:{no} does not exist: `lime port list` shows those that do",
            network.name
        ))
    })
}

fn number(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

/// A port number of a request, in which 0 means any.
fn optional_port(no: u32) -> Option<PortNo> {
    (no != 0).then_some(PortNo(no))
}

macro_rules! serve {
    ($($name:ident: $request:ident -> $reply:ty;)+) => {
        #[tonic::async_trait]
        impl v1::lime_server::Lime for LimeService {
            type ListRulesStream = Out<v1::ListRulesResponse>;
            type WatchEventsStream = Out<v1::ControllerEvent>;
            type WatchMigrationStream = Out<v1::Migration>;
            $(async fn $name(
                &self,
                request: Request<v1::$request>,
            ) -> Result<Response<$reply>, Status> {
                let request = request.into_inner();
                tracing::debug!(?request, stringify!($name));
                let reply = self.$name(request).await;
                if let Err(status) = &reply {
                    tracing::info!(code = ?status.code(), concat!(stringify!($name), ": {}"), status.message());
                }
                reply.map(Response::new)
            })+
        }
    };
}

serve! {
    create_network: CreateNetworkRequest -> v1::Network;
    delete_network: DeleteNetworkRequest -> v1::Empty;
    list_networks: ListNetworksRequest -> v1::ListNetworksResponse;
    create_switch: CreateSwitchRequest -> v1::Switch;
    configure_switch: ConfigureSwitchRequest -> v1::Switch;
    delete_switch: DeleteSwitchRequest -> v1::Empty;
    list_switches: ListSwitchesRequest -> v1::ListSwitchesResponse;
    add_instance: AddInstanceRequest -> v1::Switch;
    remove_instance: RemoveInstanceRequest -> v1::Switch;
    create_port: CreatePortRequest -> v1::Port;
    delete_port: DeletePortRequest -> v1::Empty;
    list_ports: ListPortsRequest -> v1::ListPortsResponse;
    move_port: MovePortRequest -> v1::Port;
    create_link: CreateLinkRequest -> v1::Link;
    delete_link: DeleteLinkRequest -> v1::Empty;
    list_links: ListLinksRequest -> v1::ListLinksResponse;
    list_hosts: ListHostsRequest -> v1::ListHostsResponse;
    delete_host: DeleteHostRequest -> v1::Empty;
    cordon_host: CordonHostRequest -> v1::Host;
    update_rules: UpdateRulesRequest -> v1::UpdateRulesResponse;
    list_rules: ListRulesRequest -> Out<v1::ListRulesResponse>;
    create_group: CreateGroupRequest -> v1::Group;
    delete_group: DeleteGroupRequest -> v1::Empty;
    list_groups: ListGroupsRequest -> v1::ListGroupsResponse;
    update_groups: UpdateGroupsRequest -> v1::UpdateGroupsResponse;
    update_switch: UpdateSwitchRequest -> v1::UpdateSwitchResponse;
    update_meters: UpdateMetersRequest -> v1::UpdateMetersResponse;
    list_meters: ListMetersRequest -> v1::ListMetersResponse;
    port_stats: PortStatsRequest -> v1::PortStatsResponse;
    watch_events: WatchEventsRequest -> Out<v1::ControllerEvent>;
    send_packet_out: SendPacketOutRequest -> v1::Empty;
    plan_migration: MigrationRequest -> v1::MigrationPlan;
    start_migration: MigrationRequest -> v1::Migration;
    get_migration: GetMigrationRequest -> v1::Migration;
    list_migrations: ListMigrationsRequest -> v1::ListMigrationsResponse;
    watch_migration: GetMigrationRequest -> Out<v1::Migration>;
    rollback_migration: GetMigrationRequest -> v1::Migration;
}

/// A network, as the API shows it.
fn network_reply(state: &State) -> v1::Network {
    let hosts = &state.shared().hosts;
    let members = state.model.members.keys();
    v1::Network {
        id: state.model.id.0,
        name: state.model.name.clone(),
        consistency: v1::Consistency::from(state.model.consistency).into(),
        vni: state.model.vni,
        epoch: state.seq.logged().0,
        acknowledged: state.seq.acknowledged().0,
        excluded: members
            .clone()
            .filter(|h| is_excluded(&state.model, **h))
            .map(|h| hosts.name(*h))
            .collect(),
        members: members.map(|h| hosts.name(*h)).collect(),
        waiting_for: state.waiting_for(),
        warnings: state.warnings(),
    }
}

/// A switch, as the API shows it.
fn switch_reply(state: &State, switch: &lime_core::model::Switch) -> v1::Switch {
    let hosts = &state.shared().hosts;
    v1::Switch {
        id: switch.id.0,
        network: state.model.name.clone(),
        name: switch.name.clone(),
        instances: switch.instances.keys().map(|h| hosts.name(*h)).collect(),
        ports: number(state.model.ports_of(switch.id).len()),
        rules: state.rules.len(switch.id) as u64,
        packet_ins: Some(switch.packet_ins.into()),
    }
}

/// A port, as the API shows it.
fn port_reply(state: &State, port: &Port, hosts: &Hosts) -> v1::Port {
    use lime_core::model::Place;
    let network = &state.model;
    let switch = network.switches.get(&port.switch);
    let mut reply = v1::Port {
        id: port.id.0,
        network: network.name.clone(),
        switch: switch.map(|s| s.name.clone()).unwrap_or_default(),
        port_no: port.no.0,
        mtu: state.mtu(port.id, port.mtu),
        no_flood: port.no_flood,
        external: port.external,
        up: !state.down.contains(&port.id),
        ..Default::default()
    };
    match &port.place {
        Place::Device(device) => {
            reply.host = hosts.name(device.host);
            reply.device = device.name.clone();
            reply.attach = v1::PortAttach::from(device.attach).into();
            reply.driver = device.driver.clone();
            reply.up &= state.sessions.contains_key(&device.host);
        }
        Place::Link(peer) => {
            let peer = network.ports.get(peer);
            reply.link = peer.map(|p| network.port_name(p)).unwrap_or_default();
        }
    }
    reply
}
