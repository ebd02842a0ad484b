//! A fake agent: tables in memory that keep the protocol's invariants, and die loudly when the coordinator breaks them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lime_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::UnboundedReceiverStream;
use v1::agent_message::Message as Up;
use v1::coordinator_message::Message as Down;

use super::tables::{FakeNetwork, Tables, counters_of, kind_of};

/// One agent. Tables outlive its "process", as pinned maps do.
pub struct FakeAgent {
    pub name: String,
    pub tables: Arc<Mutex<Tables>>,
    url: String,
    address: String,
    incarnation: u64,
    task: Option<JoinHandle<()>>,
    up: Arc<Mutex<Option<mpsc::UnboundedSender<v1::AgentMessage>>>>,
}

impl FakeAgent {
    /// Starts an agent that dials until it is connected, and again when its stream breaks.
    pub async fn start(url: &str, name: &str) -> Self {
        static NUMBER: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(1);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let tables = Tables {
            free_rules: 100_000,
            really_free: u64::MAX,
            ..Default::default()
        };
        let mut this = Self {
            name: name.to_owned(),
            tables: Arc::new(Mutex::new(tables)),
            url: url.to_owned(),
            address: format!("10.0.0.{number}"),
            incarnation: 0,
            task: None,
            up: Arc::default(),
        };
        this.revive();
        this.connected().await;
        this
    }

    pub fn revive(&mut self) {
        self.incarnation += 1;
        let run = Runner {
            name: self.name.clone(),
            url: self.url.clone(),
            address: self.address.clone(),
            incarnation: self.incarnation,
            tables: Arc::clone(&self.tables),
            up: Arc::clone(&self.up),
        };
        self.task = Some(tokio::spawn(run.run()));
    }

    /// SIGKILL: the stream breaks, the tables stay.
    pub fn kill(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
        *self.up.lock().unwrap() = None;
    }

    /// The host reboots: nothing stays.
    pub fn reboot(&mut self) {
        self.kill();
        self.tables.lock().unwrap().networks.clear();
        self.revive();
    }

    pub async fn connected(&self) {
        super::until("the agent to connect", || async {
            self.up.lock().unwrap().as_ref().map(|_| ())
        })
        .await;
    }

    pub fn say(&self, message: Up) {
        let up = self.up.lock().unwrap();
        let message = v1::AgentMessage {
            message: Some(message),
        };
        up.as_ref().unwrap().send(message).unwrap();
    }

    /// A packet-in of this version.
    pub fn event(&self, network: u32, switch: u32, version: u32, mark: u64) {
        self.say(Up::Event(v1::Event {
            network,
            switch,
            version,
            packet_in: Some(v1::PacketIn {
                cookie: mark,
                ..Default::default()
            }),
            held_id: 0,
            rule_id: 0,
        }));
    }

    pub fn network(&self, id: u32) -> Option<FakeNetwork> {
        self.tables.lock().unwrap().networks.get(&id).cloned()
    }

    /// Rules of a switch visible at the present clock, by priority.
    pub fn visible(&self, network: u32, switch: u32) -> Vec<u32> {
        let Some(n) = self.network(network) else {
            return Vec::new();
        };
        let rules = n.rules.get(&switch).cloned().unwrap_or_default();
        let mut visible: Vec<u32> = rules
            .values()
            .filter(|r| r.from <= n.clock && (r.to == 0 || n.clock < r.to))
            .map(|r| r.priority)
            .collect();
        visible.sort_unstable();
        visible
    }

    pub fn check(&self) {
        let tables = self.tables.lock().unwrap();
        assert!(
            tables.violations.is_empty(),
            "{}: {:?}",
            self.name,
            tables.violations
        );
    }

    /// Lets the acknowledgements go that were held.
    pub fn release_acks(&self) {
        let mut tables = self.tables.lock().unwrap();
        tables.hold_acks = false;
        let acks = tables.networks.iter().map(|(n, s)| {
            let rules = s.rules.values().flatten();
            let ended = rules.filter(|(_, r)| r.to != 0 && r.to <= s.clock);
            let ended = ended.map(|(id, r)| counters_of(*id, r)).collect();
            (*n, s.clock, ended)
        });
        let acks: Vec<(u32, u32, Vec<_>)> = acks.collect();
        drop(tables);
        for (network, epoch, rules) in acks {
            self.say(Up::EndedRules(v1::EndedRules { network, rules }));
            self.say(Up::Activated(v1::Activated { network, epoch }));
        }
    }
}

impl FakeAgent {
    /// Waits for a question whether rules are idle that is not answered, and gives it.
    pub async fn asked(&self) -> v1::AskIdle {
        super::until("a question whether rules are idle", || async {
            self.tables.lock().unwrap().asked.pop()
        })
        .await
    }

    /// Answers it.
    pub fn votes(&self, ask: &v1::AskIdle) {
        let vote = self.tables.lock().unwrap().vote(ask);
        self.say(vote);
    }

    /// Waits until a stage is held.
    pub async fn holds_a_stage(&self) {
        super::until("a stage to be held", || async {
            let tables = self.tables.lock().unwrap();
            (!tables.held_stages.is_empty()).then_some(())
        })
        .await;
    }

    /// Carries out the stages that were held.
    pub fn release_stages(&self) {
        let mut tables = self.tables.lock().unwrap();
        tables.hold_stages = false;
        let held = std::mem::take(&mut tables.held_stages);
        let answers: Vec<Up> = held.into_iter().flat_map(|s| tables.stage(s)).collect();
        drop(tables);
        for answer in answers {
            self.say(answer);
        }
    }

    /// Waits until just so many rules are promised.
    pub async fn promises(&self, count: usize) {
        super::until("promises to be made or lifted", || async {
            (self.tables.lock().unwrap().promised.len() == count).then_some(())
        })
        .await;
    }
}

impl Drop for FakeAgent {
    fn drop(&mut self) {
        self.kill();
        if !std::thread::panicking() {
            self.check();
        }
    }
}

struct Runner {
    name: String,
    url: String,
    address: String,
    incarnation: u64,
    tables: Arc<Mutex<Tables>>,
    up: Arc<Mutex<Option<mpsc::UnboundedSender<v1::AgentMessage>>>>,
}

impl Runner {
    async fn run(self) {
        loop {
            if let Err(e) = self.session().await {
                tracing::debug!("{}: {e}", self.name);
            }
            *self.up.lock().unwrap() = None;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn session(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let channel = tonic::transport::Channel::from_shared(self.url.clone())?
            .connect()
            .await?;
        let mut client = v1::agents_client::AgentsClient::new(channel)
            .max_decoding_message_size(lime_proto::MAX_MESSAGE_BYTES);
        let (up, queue) = mpsc::unbounded_channel();
        let hello = self.hello();
        up.send(v1::AgentMessage {
            message: Some(Up::Hello(hello)),
        })?;
        let mut down = client
            .session(UnboundedReceiverStream::new(queue))
            .await?
            .into_inner();
        self.tables.lock().unwrap().lease = (0, 0);
        let mut renew = tokio::time::interval(Duration::from_millis(100));
        loop {
            let message = tokio::select! {
                message = down.message() => message?,
                _ = renew.tick() => {
                    let renewal = self.tables.lock().unwrap().renewal();
                    if let Some(message) = renewal {
                        let message = Some(message);
                        up.send(v1::AgentMessage { message })?;
                    }
                    continue;
                }
            };
            let Some(message) = message else { break };
            let Some(message) = message.message else {
                continue;
            };
            let first = matches!(message, Down::Welcome(_));
            let answers = {
                let mut tables = self.tables.lock().unwrap();
                let kind = kind_of(&message);
                tables.seen.push(kind);
                if tables.die_at == Some(kind) {
                    tables.die_at = None;
                    return Err("dies here".into());
                }
                let dies = tables.die_after == Some(kind);
                let answers = tables.handle(message);
                if dies {
                    tables.die_after = None;
                    tables.deaths += 1;
                    return Err("dies here".into());
                }
                answers
            };
            if first {
                *self.up.lock().unwrap() = Some(up.clone());
            }
            for answer in answers {
                up.send(v1::AgentMessage {
                    message: Some(answer),
                })?;
            }
        }
        Ok(())
    }

    fn hello(&self) -> v1::Hello {
        let tables = self.tables.lock().unwrap();
        let networks = tables
            .networks
            .iter()
            .map(|(&network, n)| v1::AdoptedNetwork {
                network,
                generation: n.config.generation,
                clock: n.clock,
                staged: n.staged,
                switches: n
                    .config
                    .switches
                    .iter()
                    .filter(|s| s.instance)
                    .map(|s| s.switch_id)
                    .collect(),
            });
        v1::Hello {
            host: self.name.clone(),
            incarnation: self.incarnation + 1000 * tables.deaths,
            abi_version: 1,
            agent_version: "fake".into(),
            underlay_address: self.address.clone(),
            underlay_mtu: 9000,
            networks: networks.collect(),
            capacity: Some(v1::Capacity {
                rules: tables.free_rules,
                ports: 1000,
            }),
        }
    }
}
