//! A coordinator for tests: keeps what it is told in memory and answers as the real one, in a thread of its own.

pub mod run;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use lime_proto::v1::lime_server::{Lime, LimeServer};
use lime_proto::v1::{self, Empty};
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// What the mock knows, and what it is to do.
#[derive(Default)]
pub struct State {
    pub networks: Vec<v1::Network>,
    pub switches: Vec<v1::Switch>,
    pub ports: Vec<v1::Port>,
    pub links: Vec<v1::Link>,
    pub hosts: Vec<v1::Host>,
    pub rules: Vec<v1::RuleStats>,
    pub groups: Vec<v1::Group>,
    pub meters: Vec<v1::Meter>,
    pub events: Vec<v1::ControllerEvent>,
    pub stats: Vec<v1::PortStatsOf>,
    /// What was asked for.
    pub updates: Vec<v1::UpdateRulesRequest>,
    pub bundles: Vec<v1::UpdateSwitchRequest>,
    pub packet_outs: Vec<v1::SendPacketOutRequest>,
    pub migrations: Vec<v1::MigrationRequest>,
    pub moves: Vec<v1::MovePortRequest>,
    /// How migrations end.
    pub end: v1::migration::State,
    /// The first watches of a migration break off in the middle.
    pub breaks: u32,
    /// Watches of a migration never end.
    pub hangs: bool,
    /// Watches of migrations so far.
    pub watches: u32,
}

/// A running mock; ends with the test process.
pub struct Mock {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Mock {
    pub fn start(state: State) -> Self {
        let state = Arc::new(Mutex::new(state));
        let service = Service(state.clone());
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
                sender.send(listener.local_addr().unwrap()).unwrap();
                let service = LimeServer::new(service)
                    .max_decoding_message_size(lime_proto::MAX_MESSAGE_BYTES);
                tonic::transport::Server::builder()
                    .add_service(service)
                    .serve_with_incoming(TcpListenerStream::new(listener))
                    .await
                    .unwrap();
            });
        });
        Self {
            address: receiver.recv().unwrap(),
            state,
        }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }
}

struct Service(Arc<Mutex<State>>);

type Answer<T> = Result<Response<T>, Status>;
type Stream<T> = Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

fn ok<T>(value: T) -> Answer<T> {
    Ok(Response::new(value))
}

fn stream_of<T>(
    items: impl IntoIterator<Item = Result<T, Status>>,
) -> tokio_stream::Iter<std::vec::IntoIter<Result<T, Status>>> {
    tokio_stream::iter(items.into_iter().collect::<Vec<_>>())
}

fn stream<T: Send + 'static>(
    items: impl IntoIterator<Item = Result<T, Status>>,
) -> Answer<Stream<T>> {
    ok(Box::pin(stream_of(items)))
}

impl Service {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

fn known_host(state: &State, name: &str) -> Result<(), Status> {
    match state.hosts.iter().any(|h| h.name == name) {
        true => Ok(()),
        false => Err(Status::not_found(format!("host {name} does not exist"))),
    }
}

fn known_switch(state: &State, network: &str, switch: &str) -> Result<(), Status> {
    let mut switches = state.switches.iter();
    match switches.any(|s| s.network == network && s.name == switch) {
        true => Ok(()),
        false => Err(Status::not_found(format!(
            "switch {network}/{switch} does not exist"
        ))),
    }
}

/// A migration after so many of its two steps.
fn migration(state: &State, id: u64, steps_done: u32) -> Result<v1::Migration, Status> {
    let request = id
        .checked_sub(1)
        .and_then(|i| state.migrations.get(i as usize))
        .ok_or_else(|| Status::not_found(format!("migration {id} does not exist")))?;
    let ended = steps_done == 2;
    let completed = state.end == v1::migration::State::Completed;
    let done = |name: &str, started_ms, done| v1::Phase {
        name: name.to_owned(),
        started_ms,
        duration_ms: 700,
        done,
    };
    Ok(v1::Migration {
        id,
        state: if ended {
            state.end
        } else {
            v1::migration::State::Running
        }
        .into(),
        request: Some(request.clone()),
        steps_done,
        steps: 2,
        step: if ended { "" } else { "clone acme/edge" }.to_owned(),
        phases: vec![done("prepare", 0, steps_done > 0), done("move", 700, ended)],
        error: if ended && !completed {
            "host b went away"
        } else {
            ""
        }
        .to_owned(),
        rules_cloned: 3,
        started_at: 1_000,
        ended_at: if ended { 2_400 } else { 0 },
        port_moves: match ended && completed {
            true => vec![v1::PortMove {
                port: "acme/edge:1".to_owned(),
                blackout_us: 1_234,
            }],
            false => Vec::new(),
        },
    })
}

#[tonic::async_trait]
impl Lime for Service {
    async fn create_network(&self, r: Request<v1::CreateNetworkRequest>) -> Answer<v1::Network> {
        let r = r.into_inner();
        let mut state = self.state();
        if state.networks.iter().any(|n| n.name == r.name) {
            return Err(Status::already_exists(format!("network {} exists", r.name)));
        }
        let network = v1::Network {
            id: state.networks.len() as u32 + 1,
            name: r.name,
            consistency: r.consistency,
            ..Default::default()
        };
        state.networks.push(network.clone());
        ok(network)
    }

    async fn delete_network(&self, r: Request<v1::DeleteNetworkRequest>) -> Answer<Empty> {
        let name = r.into_inner().name;
        let mut state = self.state();
        if state.switches.iter().any(|s| s.network == name) {
            return Err(Status::failed_precondition(format!(
                "network {name} has switches: delete them first"
            )));
        }
        state.networks.retain(|n| n.name != name);
        ok(Empty {})
    }

    async fn list_networks(
        &self,
        _: Request<v1::ListNetworksRequest>,
    ) -> Answer<v1::ListNetworksResponse> {
        let networks = self.state().networks.clone();
        ok(v1::ListNetworksResponse { networks })
    }

    async fn create_switch(&self, r: Request<v1::CreateSwitchRequest>) -> Answer<v1::Switch> {
        let r = r.into_inner();
        let mut state = self.state();
        known_host(&state, &r.host)?;
        let switch = v1::Switch {
            id: 1,
            network: r.network,
            name: r.name,
            instances: vec![r.host],
            packet_ins: r.packet_ins,
            ..Default::default()
        };
        state.switches.push(switch.clone());
        ok(switch)
    }

    async fn configure_switch(&self, r: Request<v1::ConfigureSwitchRequest>) -> Answer<v1::Switch> {
        let r = r.into_inner();
        let mut state = self.state();
        known_switch(&state, &r.network, &r.name)?;
        let mut switches = state.switches.iter_mut();
        let switch = switches.find(|s| s.name == r.name).unwrap();
        let packet_ins = switch.packet_ins.get_or_insert_default();
        if let Some(rate) = r.packet_in_rate {
            packet_ins.rate = rate;
        }
        if let Some(burst) = r.packet_in_burst {
            packet_ins.burst = burst;
        }
        if let Some(invalid_ttl) = r.invalid_ttl {
            packet_ins.invalid_ttl = invalid_ttl;
        }
        ok(switch.clone())
    }

    async fn delete_switch(&self, r: Request<v1::DeleteSwitchRequest>) -> Answer<Empty> {
        let r = r.into_inner();
        known_switch(&self.state(), &r.network, &r.name)?;
        ok(Empty {})
    }

    async fn list_switches(
        &self,
        r: Request<v1::ListSwitchesRequest>,
    ) -> Answer<v1::ListSwitchesResponse> {
        let network = r.into_inner().network;
        let mut switches = self.state().switches.clone();
        switches.retain(|s| network.is_empty() || s.network == network);
        ok(v1::ListSwitchesResponse { switches })
    }

    async fn add_instance(&self, r: Request<v1::AddInstanceRequest>) -> Answer<v1::Switch> {
        let r = r.into_inner();
        let mut state = self.state();
        known_host(&state, &r.host)?;
        known_switch(&state, &r.network, &r.switch)?;
        let switch = &mut state.switches[0];
        switch.instances.push(r.host);
        ok(switch.clone())
    }

    async fn remove_instance(&self, r: Request<v1::RemoveInstanceRequest>) -> Answer<v1::Switch> {
        let r = r.into_inner();
        let mut state = self.state();
        known_switch(&state, &r.network, &r.switch)?;
        let switch = &mut state.switches[0];
        if switch.instances.len() == 1 {
            return Err(Status::failed_precondition("that is the last instance"));
        }
        switch.instances.retain(|i| *i != r.host);
        ok(switch.clone())
    }

    async fn create_port(&self, r: Request<v1::CreatePortRequest>) -> Answer<v1::Port> {
        let r = r.into_inner();
        let mut state = self.state();
        known_switch(&state, &r.network, &r.switch)?;
        let port = v1::Port {
            id: 1,
            network: r.network,
            switch: r.switch,
            port_no: if r.port_no == 0 { 1 } else { r.port_no },
            host: r.host,
            device: r.device,
            attach: r.attach,
            driver: r.driver,
            mtu: r.mtu,
            no_flood: r.no_flood,
            external: r.external,
            warnings: Vec::new(),
            up: true,
            link: String::new(),
        };
        state.ports.push(port.clone());
        let mut port = port;
        if port.external {
            port.warnings = vec!["it leads outside".to_owned()];
        }
        ok(port)
    }

    async fn delete_port(&self, _: Request<v1::DeletePortRequest>) -> Answer<Empty> {
        ok(Empty {})
    }

    async fn list_ports(&self, r: Request<v1::ListPortsRequest>) -> Answer<v1::ListPortsResponse> {
        let r = r.into_inner();
        let mut ports = self.state().ports.clone();
        ports.retain(|p| r.network.is_empty() || p.network == r.network);
        ports.retain(|p| r.switch.is_empty() || p.switch == r.switch);
        ok(v1::ListPortsResponse { ports })
    }

    async fn move_port(&self, r: Request<v1::MovePortRequest>) -> Answer<v1::Port> {
        let r = r.into_inner();
        let mut state = self.state();
        state.moves.push(r.clone());
        ok(v1::Port {
            network: r.network,
            switch: r.switch,
            port_no: r.port_no,
            host: r.host,
            device: r.device,
            ..Default::default()
        })
    }

    async fn create_link(&self, r: Request<v1::CreateLinkRequest>) -> Answer<v1::Link> {
        let r = r.into_inner();
        ok(v1::Link {
            network: r.network,
            switch_a: r.switch_a,
            port_a: r.port_a,
            switch_b: r.switch_b,
            port_b: r.port_b,
        })
    }

    async fn delete_link(&self, _: Request<v1::DeleteLinkRequest>) -> Answer<Empty> {
        ok(Empty {})
    }

    async fn list_links(&self, _: Request<v1::ListLinksRequest>) -> Answer<v1::ListLinksResponse> {
        let links = self.state().links.clone();
        ok(v1::ListLinksResponse { links })
    }

    async fn list_hosts(&self, _: Request<v1::ListHostsRequest>) -> Answer<v1::ListHostsResponse> {
        let hosts = self.state().hosts.clone();
        ok(v1::ListHostsResponse { hosts })
    }

    async fn delete_host(&self, _: Request<v1::DeleteHostRequest>) -> Answer<Empty> {
        ok(Empty {})
    }

    async fn cordon_host(&self, r: Request<v1::CordonHostRequest>) -> Answer<v1::Host> {
        let r = r.into_inner();
        let mut state = self.state();
        known_host(&state, &r.name)?;
        let mut hosts = state.hosts.iter_mut();
        let host = hosts.find(|h| h.name == r.name).unwrap();
        host.cordoned = r.cordoned;
        ok(host.clone())
    }

    async fn update_rules(
        &self,
        r: Request<v1::UpdateRulesRequest>,
    ) -> Answer<v1::UpdateRulesResponse> {
        let r = r.into_inner();
        let mut state = self.state();
        known_switch(&state, &r.network, &r.switch)?;
        let added = r
            .mods
            .iter()
            .filter(|m| m.command() == v1::flow_mod::Command::Add)
            .count() as u32;
        state.updates.push(r);
        ok(v1::UpdateRulesResponse {
            epoch: state.updates.len() as u32,
            added,
            removed: 1,
        })
    }

    type ListRulesStream = Stream<v1::ListRulesResponse>;

    async fn list_rules(&self, r: Request<v1::ListRulesRequest>) -> Answer<Self::ListRulesStream> {
        let r = r.into_inner();
        let state = self.state();
        known_switch(&state, &r.network, &r.switch)?;
        // One by one, to see that parts are put together.
        stream(state.rules.iter().map(|rule| {
            Ok(v1::ListRulesResponse {
                rules: vec![rule.clone()],
                exact: r.exact,
            })
        }))
    }

    async fn create_group(&self, r: Request<v1::CreateGroupRequest>) -> Answer<v1::Group> {
        let group = r.into_inner().group.unwrap();
        self.state().groups.push(group.clone());
        ok(group)
    }

    async fn delete_group(&self, _: Request<v1::DeleteGroupRequest>) -> Answer<Empty> {
        ok(Empty {})
    }

    async fn update_switch(
        &self,
        r: Request<v1::UpdateSwitchRequest>,
    ) -> Answer<v1::UpdateSwitchResponse> {
        self.state().bundles.push(r.into_inner());
        ok(v1::UpdateSwitchResponse {
            epoch: 10,
            rules_added: 1,
            rules_removed: 2,
        })
    }

    async fn update_groups(
        &self,
        r: Request<v1::UpdateGroupsRequest>,
    ) -> Answer<v1::UpdateGroupsResponse> {
        use v1::group_mod::Change;
        for m in r.into_inner().mods {
            let groups = &mut self.state().groups;
            match m.change.unwrap() {
                Change::DeleteAll(_) => groups.clear(),
                Change::Modify(group) => {
                    let old = groups.iter_mut().find(|g| g.group_id == group.group_id);
                    *old.ok_or_else(|| Status::not_found("no such group"))? = group;
                }
                _ => return Err(Status::unimplemented("not by the command line")),
            }
        }
        ok(v1::UpdateGroupsResponse::default())
    }

    async fn list_groups(
        &self,
        r: Request<v1::ListGroupsRequest>,
    ) -> Answer<v1::ListGroupsResponse> {
        let groups = self.state().groups.clone();
        let mut stats = Vec::new();
        if r.into_inner().stats {
            stats.extend(groups.iter().map(|g| v1::GroupStats {
                group_id: g.group_id,
                ref_count: 1,
                packets: 12,
                bytes: 720,
                duration_ms: 1,
                buckets: vec![v1::BucketStats::default(); g.buckets.len()],
            }));
        }
        ok(v1::ListGroupsResponse { groups, stats })
    }

    async fn update_meters(
        &self,
        r: Request<v1::UpdateMetersRequest>,
    ) -> Answer<v1::UpdateMetersResponse> {
        use v1::meter_mod::Change;
        for m in r.into_inner().mods {
            let meters = &mut self.state().meters;
            match m.change.unwrap() {
                Change::Add(meter) => meters.push(meter),
                Change::Modify(meter) => {
                    let old = meters.iter_mut().find(|m| m.meter_id == meter.meter_id);
                    *old.ok_or_else(|| Status::not_found("no such meter"))? = meter;
                }
                Change::Delete(id) => meters.retain(|m| m.meter_id != id),
                Change::DeleteAll(_) => meters.clear(),
            }
        }
        ok(v1::UpdateMetersResponse {
            removed_rules: 2,
            ..Default::default()
        })
    }

    async fn list_meters(
        &self,
        r: Request<v1::ListMetersRequest>,
    ) -> Answer<v1::ListMetersResponse> {
        let meters = self.state().meters.clone();
        let mut stats = Vec::new();
        if r.into_inner().stats {
            stats.extend(meters.iter().map(|m| v1::MeterStats {
                meter_id: m.meter_id,
                flow_count: 1,
                packets_in: 12,
                bytes_in: 720,
                duration_ms: 1,
                bands: vec![v1::MeterBandStats::default(); m.bands.len()],
            }));
        }
        ok(v1::ListMetersResponse {
            meters,
            stats,
            ..Default::default()
        })
    }

    async fn port_stats(&self, _: Request<v1::PortStatsRequest>) -> Answer<v1::PortStatsResponse> {
        let ports = self.state().stats.clone();
        ok(v1::PortStatsResponse { ports })
    }

    type WatchEventsStream = Stream<v1::ControllerEvent>;

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Answer<Self::WatchEventsStream> {
        stream(self.state().events.iter().cloned().map(Ok))
    }

    async fn send_packet_out(&self, r: Request<v1::SendPacketOutRequest>) -> Answer<Empty> {
        self.state().packet_outs.push(r.into_inner());
        ok(Empty {})
    }

    async fn plan_migration(&self, r: Request<v1::MigrationRequest>) -> Answer<v1::MigrationPlan> {
        known_host(&self.state(), &r.into_inner().to)?;
        let step = |phase: &str, description: &str| v1::PlanStep {
            phase: phase.to_owned(),
            description: description.to_owned(),
        };
        ok(v1::MigrationPlan {
            warnings: Vec::new(),
            steps: vec![
                step("prepare", "clone acme/edge to b"),
                step("move", "move acme/edge:1 to veth1 on b"),
            ],
            rules: 3,
        })
    }

    async fn start_migration(&self, r: Request<v1::MigrationRequest>) -> Answer<v1::Migration> {
        let r = r.into_inner();
        let mut state = self.state();
        known_host(&state, &r.to)?;
        state.migrations.push(r);
        ok(migration(&state, state.migrations.len() as u64, 0)?)
    }

    async fn get_migration(&self, r: Request<v1::GetMigrationRequest>) -> Answer<v1::Migration> {
        ok(migration(&self.state(), r.into_inner().id, 1)?)
    }

    async fn list_migrations(
        &self,
        _: Request<v1::ListMigrationsRequest>,
    ) -> Answer<v1::ListMigrationsResponse> {
        let state = self.state();
        let migrations = (1..=state.migrations.len() as u64)
            .map(|id| migration(&state, id, 2))
            .collect::<Result<_, _>>()?;
        ok(v1::ListMigrationsResponse { migrations })
    }

    type WatchMigrationStream = Stream<v1::Migration>;

    async fn watch_migration(
        &self,
        r: Request<v1::GetMigrationRequest>,
    ) -> Answer<Self::WatchMigrationStream> {
        let id = r.into_inner().id;
        let mut state = self.state();
        state.watches += 1;
        if state.hangs {
            let first = stream_of([migration(&state, id, 1)]);
            return ok(Box::pin(first.chain(tokio_stream::pending())));
        }
        if state.breaks > 0 {
            state.breaks -= 1;
            let first = migration(&state, id, 1);
            return stream([
                first,
                Err(Status::unavailable("the coordinator is going down")),
            ]);
        }
        stream([migration(&state, id, 1), migration(&state, id, 2)])
    }

    async fn rollback_migration(
        &self,
        r: Request<v1::GetMigrationRequest>,
    ) -> Answer<v1::Migration> {
        let mut state = self.state();
        state.end = v1::migration::State::RolledBack;
        ok(migration(&state, r.into_inner().id, 1)?)
    }
}
