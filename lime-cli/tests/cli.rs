//! The real `lime` binary against a mock of the coordinator: what it prints, what it asks for, and its exit codes.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests panic like the tests themselves"
)]

mod mock;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lime_core::flow::ofctl::parse_rule;
use lime_proto::v1;
use mock::run::{lime, lime_with_input, run_at};
use mock::{Mock, State};
use serde_json::Value;

/// One network with a switch and a port on host a; host b is empty.
fn acme() -> Mock {
    let host = |id, name: &str| v1::Host {
        id,
        name: name.to_owned(),
        connected: true,
        underlay_address: format!("192.0.2.{id}"),
        underlay_mtu: 1600,
        ..Default::default()
    };
    let rule = |flow: &str, packets| v1::RuleStats {
        rule: Some((&parse_rule(flow).unwrap()).into()),
        rule_id: packets,
        packets,
        bytes: packets * 100,
        duration_ms: 1_500,
    };
    Mock::start(State {
        networks: vec![v1::Network {
            id: 1,
            name: "acme".to_owned(),
            vni: 7,
            epoch: 3,
            acknowledged: 2,
            members: vec!["a".to_owned(), "b".to_owned()],
            waiting_for: vec!["b".to_owned()],
            ..Default::default()
        }],
        switches: vec![v1::Switch {
            id: 1,
            network: "acme".to_owned(),
            name: "edge".to_owned(),
            instances: vec!["a".to_owned()],
            ports: 1,
            rules: 2,
            packet_ins: None,
        }],
        ports: vec![v1::Port {
            id: 1,
            network: "acme".to_owned(),
            switch: "edge".to_owned(),
            port_no: 1,
            host: "a".to_owned(),
            device: "veth1".to_owned(),
            mtu: 1500,
            up: true,
            ..Default::default()
        }],
        hosts: vec![host(1, "a"), host(2, "b")],
        rules: vec![
            rule("priority=100,ip,nw_dst=10.0.0.2,actions=output:2", 4),
            rule("table=1,priority=0,cookie=0xff,actions=controller", 9),
        ],
        end: v1::migration::State::Completed,
        ..Default::default()
    })
}

#[test]
fn networks() {
    let mock = acme();
    assert_eq!(
        lime(&mock, &["network", "create", "beta"]).ok(),
        "network beta created\n"
    );
    assert_eq!(
        lime(&mock, &["network", "list"]).ok(),
        "NETWORK  CONSISTENCY  EPOCH  ACKNOWLEDGED  HOSTS  WAITING FOR\n\
         acme     causal           3             2  a,b    b\n\
         beta     causal           0             0  -      -\n"
    );
    let json = lime(&mock, &["network", "list", "--json"]).json();
    assert_eq!(json[0]["consistency"], "causal");
    assert_eq!(json[1]["name"], "beta");
    let naive = ["network", "create", "c", "--consistency", "none", "--json"];
    assert_eq!(lime(&mock, &naive).json()["consistency"], "none");
    let show = lime(&mock, &["network", "show", "acme"]).ok();
    assert!(
        show.contains("waiting for b") && show.contains("acme/edge:1"),
        "{show}"
    );
    let show = lime(&mock, &["network", "show", "acme", "--json"]).json();
    assert_eq!(show["switches"][0]["instances"][0], "a");
}

#[test]
fn a_switch_is_made_with_what_it_sends_its_controller() {
    let mock = acme();
    let create = ["switch", "create", "acme/x", "--host", "a"];
    let options = ["--packet-in-rate", "5000", "--invalid-ttl"];
    lime(&mock, &[&create[..], &options].concat()).ok();
    let show = lime(&mock, &["switch", "show", "acme/x"]).ok();
    let expected = "packet-ins: 5000 bytes a second and 262144 at once, on each instance; packets whose TTL runs out too";
    assert!(show.contains(expected), "{show}");
}

#[test]
fn what_a_switch_sends_its_controller_is_changed_one_by_one() {
    let mock = acme();
    let create = ["switch", "create", "acme/x", "--host", "a"];
    lime(&mock, &create).ok();
    let set = ["switch", "set", "acme/x"];
    let on = ["--packet-in-rate", "5000", "--invalid-ttl", "on"];
    let set_on = lime(&mock, &[&set[..], &on].concat()).ok();
    assert_eq!(
        set_on,
        "switch acme/x sends packet-ins: 5000 bytes a second and 262144 at once, on each instance; packets whose TTL runs out too\n"
    );
    let off = ["--packet-in-burst", "20000", "--invalid-ttl", "off"];
    lime(&mock, &[&set[..], &off].concat()).ok();
    let show = lime(&mock, &["switch", "show", "acme/x"]).ok();
    let expected = "packet-ins: 5000 bytes a second and 20000 at once, on each instance\n";
    assert!(show.contains(expected), "{show}");
    let error = lime(&mock, &set).failed(2);
    assert!(error.contains("--packet-in-rate"), "{error}");
}

#[test]
fn refusals_have_their_exit_codes() {
    let mock = acme();
    assert_eq!(
        lime(&mock, &["network", "create", "acme"]).failed(4),
        "error: cannot create network acme: network acme exists\n"
    );
    assert_eq!(
        lime(&mock, &["network", "delete", "acme"]).failed(4),
        "error: cannot delete network acme: network acme has switches: delete them first\n"
    );
    let error = lime(&mock, &["switch", "create", "acme/x", "--host", "z"]).failed(3);
    assert_eq!(
        error,
        "error: cannot create switch acme/x on z: host z does not exist\n"
    );
    assert!(
        lime(&mock, &["network", "show", "no"])
            .failed(3)
            .contains("network no does not exist: `lime network list` shows")
    );
    let error = lime(&mock, &["switch", "show", "edge"]).failed(2);
    assert!(error.contains("write NET/SWITCH"), "{error}");
    let error = lime(&mock, &["network", "create", "acme", "--json"]).failed(4);
    let error: Value = serde_json::from_str(&error).unwrap();
    assert_eq!(error["exit_code"], 4);
}

#[test]
fn an_absent_coordinator_is_named() {
    // Port 1 is nobody's.
    let run = run_at("127.0.0.1:1", &["network", "list"], "");
    let error = run.failed(5);
    assert!(
        error.starts_with(
            "error: cannot reach the coordinator at http://127.0.0.1:1: Connection refused"
        ),
        "{error}"
    );
    assert!(error.contains("LIME_COORDINATOR"), "{error}");
    let error = run_at("not a url", &["network", "list"], "").failed(5);
    assert!(error.contains("http://HOST:PORT"), "{error}");
}

#[test]
fn help_documents_the_exit_codes() {
    let help = run_at("", &["--help"], "").ok();
    assert!(help.contains("Exit codes:"), "{help}");
    assert!(help.contains("6  a migration was rolled back or failed"));
    assert_eq!(run_at("", &[], "").code, 2);
    assert_eq!(run_at("", &["frobnicate"], "").code, 2);
    for shell in ["bash", "zsh", "fish"] {
        let script = run_at("", &["completions", shell], "").ok();
        assert!(script.contains("packet-out"), "{shell}");
    }
}

#[test]
fn rules_are_dumped_as_ovs_does() {
    let mock = acme();
    let dump = lime(&mock, &["rule", "dump", "acme/edge"]).ok();
    assert_eq!(
        dump,
        " cookie=0x0, duration=1.500s, table=0, n_packets=4, n_bytes=400, priority=100,ip,nw_dst=10.0.0.2 actions=output:2\n \
         cookie=0xff, duration=1.500s, table=1, n_packets=9, n_bytes=900, priority=0 actions=CONTROLLER:65535\n"
    );
    let only = lime(&mock, &["rule", "dump", "acme/edge", "table=1"]).ok();
    assert_eq!(only.lines().count(), 1);
    let plain = lime(&mock, &["rule", "dump", "acme/edge", "ip", "--no-stats"]).ok();
    assert_eq!(
        plain,
        "table=0,priority=100,ip,nw_dst=10.0.0.2,actions=output:2\n"
    );
    let json = lime(&mock, &["rule", "dump", "acme/edge", "--json"]).ok();
    let lines: Vec<Value> = json
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines[0]["match"], "ip,nw_dst=10.0.0.2");
    assert_eq!(lines[1]["packets"], 9);

    // What was dumped can be given back, in one update.
    let added = lime_with_input(&mock, &["rule", "add", "acme/edge", "--file", "-"], &dump).ok();
    assert_eq!(
        added,
        "switch acme/edge: 2 rules added, 1 rule removed, at epoch 1\n"
    );
    let state = mock.state();
    assert_eq!(state.updates.len(), 1);
    assert_eq!(
        state.updates[0].mods[1].rule.as_ref(),
        state.rules[1].rule.as_ref()
    );
}

#[test]
fn a_file_is_taken_as_a_whole_or_not_at_all() {
    let mock = acme();
    let file = ["rule", "add", "acme/edge", "--file", "-"];
    let error = lime_with_input(
        &mock,
        &file,
        "actions=drop\n# x\nip,nw_dts=1,actions=drop\n",
    )
    .failed(2);
    assert_eq!(
        error,
        "error: standard input: line 3, column 4: unknown field \"nw_dts\"; did you mean \"nw_dst\"?\n  \
         ip,nw_dts=1,actions=drop\n     ^\n"
    );
    assert!(mock.state().updates.is_empty());
    let mixed = "delete table=1\nadd priority=5,actions=2\ndelete_strict priority=7\n";
    lime_with_input(&mock, &file, mixed).ok();
    let commands: Vec<_> = mock.state().updates[0]
        .mods
        .iter()
        .map(|m| m.command())
        .collect();
    use v1::flow_mod::Command::{Add, Delete, DeleteStrict};
    assert_eq!(commands, [Delete, Add, DeleteStrict]);
    let missing = ["rule", "add", "acme/edge", "--file", "/nonexistent"];
    assert!(
        lime(&mock, &missing)
            .failed(1)
            .contains("cannot open /nonexistent")
    );
}

#[test]
fn many_rules_are_one_update() {
    let mock = acme();
    let flows: String = (0..50_000)
        .map(|n| {
            format!(
                "priority={},in_port={},actions=output:1\n",
                n % 65_536,
                n + 1
            )
        })
        .collect();
    let text = lime_with_input(&mock, &["rule", "add", "acme/edge", "--file", "-"], &flows).ok();
    assert!(text.contains("50000 rules added"), "{text}");
    assert_eq!(mock.state().updates.len(), 1);
}

#[test]
fn rules_are_modified() {
    use v1::flow_mod::Command;
    let mock = acme();
    lime(
        &mock,
        &[
            "rule",
            "mod",
            "acme/edge",
            "ip,cookie=1/0xf,actions=output:3",
        ],
    )
    .ok();
    let strict = [
        "rule",
        "mod",
        "acme/edge",
        "--strict",
        "priority=5,reset_counts,actions=clear_actions,write_actions(output:2),write_metadata:1,goto_table:3",
    ];
    lime(&mock, &strict).ok();
    let add = "check_overlap,send_flow_rem,actions=dec_ttl,1";
    let add = ["rule", "add", "acme/edge", &format!("ip,{add}")];
    lime(&mock, &add).ok();
    let state = mock.state();
    let first = &state.updates[0].mods[0];
    assert_eq!((first.command(), first.cookie_mask), (Command::Modify, 0xf));
    let second = &state.updates[1].mods[0];
    assert!(second.command() == Command::ModifyStrict && second.reset_counts);
    let rule = second.rule.as_ref().unwrap();
    assert!(rule.clear_actions && rule.write_actions.len() == 1);
    assert_eq!(rule.write_metadata.unwrap().mask, u64::MAX);
    let third = &state.updates[2].mods[0];
    assert!(third.check_overlap && third.rule.as_ref().unwrap().send_flow_removed);
    drop(state);
    assert_eq!(lime(&mock, &["rule", "mod", "acme/edge"]).code, 2);
}

#[test]
fn rules_are_deleted_by_filter_or_all() {
    let mock = acme();
    lime(
        &mock,
        &[
            "rule",
            "del",
            "acme/edge",
            "ip,nw_dst=10.0.0.2",
            "cookie=1/0xf",
        ],
    )
    .ok();
    lime(&mock, &["rule", "del", "acme/edge", "--all"]).ok();
    let strict = ["rule", "del", "acme/edge", "--strict", "priority=5,ip"];
    let json = lime(&mock, &[&strict[..], &["--json"]].concat()).json();
    assert_eq!(json["epoch"], 3);
    let state = mock.state();
    assert_eq!(state.updates[0].mods[1].cookie_mask, 0xf);
    assert_eq!(state.updates[1].mods[0].rule.as_ref().unwrap().table, 0xff);
    assert_eq!(
        state.updates[2].mods[0].command(),
        v1::flow_mod::Command::DeleteStrict
    );
    drop(state);
    assert_eq!(lime(&mock, &["rule", "del", "acme/edge"]).code, 2);
    let error = lime(&mock, &["rule", "del", "acme/none", "--all"]).failed(3);
    assert!(error.contains("acme/none"), "{error}");
}

#[test]
fn what_needs_strict_is_said_beside_the_answer() {
    let mock = acme();
    let create = [
        "port",
        "create",
        "acme/edge:6",
        "--host",
        "a",
        "--device",
        "eth6",
        "--external",
    ];
    let made = lime(&mock, &create);
    assert_eq!(made.stdout, "port acme/edge:6 created: eth6 on a\n");
    assert_eq!(made.stderr, "warning: it leads outside\n");
    let made = lime(
        &mock,
        &[
            "network",
            "create",
            "n",
            "--consistency",
            "strict",
            "--json",
        ],
    );
    assert_eq!(made.json()["consistency"], "strict");
}

#[test]
fn ports_links_hosts_and_instances() {
    let mock = acme();
    let create = [
        "port",
        "create",
        "acme/edge:5",
        "--host",
        "a",
        "--device",
        "veth5",
        "--attach",
        "tc",
        "--no-flood",
    ];
    assert_eq!(
        lime(&mock, &create).ok(),
        "port acme/edge:5 created: veth5 on a\n"
    );
    let port = lime(&mock, &["port", "show", "acme/edge:5", "--json"]).json();
    assert_eq!(
        (&port["attach"], &port["no_flood"]),
        (&"tc".into(), &true.into())
    );
    assert!(
        lime(&mock, &["port", "show", "acme/edge:9"])
            .failed(3)
            .contains("port acme/edge:9")
    );
    assert_eq!(
        lime(&mock, &["port", "list", "acme/edge"]).ok(),
        "PORT         HOST  DEVICE  ATTACH   MTU  UP   LINK TO\n\
         acme/edge:1  a     veth1   auto    1500  yes  -\n\
         acme/edge:5  a     veth5   tc      1500  yes  -\n"
    );
    let text = lime(
        &mock,
        &[
            "port",
            "move",
            "acme/edge:1",
            "--to",
            "b",
            "--device",
            "veth9",
        ],
    )
    .ok();
    assert_eq!(text, "port acme/edge:1 is now veth9 on b\n");
    assert_eq!(mock.state().moves[0].host, "b");

    let link = lime(&mock, &["link", "create", "acme/edge:8", "acme/core:1"]).ok();
    assert_eq!(link, "link created: acme/edge:8 to acme/core:1\n");
    assert!(
        lime(&mock, &["link", "create", "acme/edge:8", "b/core:1"])
            .failed(2)
            .contains("different networks")
    );

    assert_eq!(
        lime(&mock, &["host", "cordon", "b"]).ok(),
        "host b cordoned\n"
    );
    let hosts = lime(&mock, &["host", "list", "--json"]).json();
    assert_eq!(hosts[1]["cordoned"], true);
    assert!(
        lime(&mock, &["host", "show", "a"])
            .ok()
            .contains("acme/edge:1")
    );

    let text = lime(&mock, &["switch", "clone", "acme/edge", "--to", "b"]).ok();
    assert_eq!(text, "switch acme/edge cloned to b; instances: a, b\n");
    lime(&mock, &["switch", "retire", "acme/edge", "--from", "a"]).ok();
    let error = lime(&mock, &["switch", "retire", "acme/edge", "--from", "b"]).failed(4);
    assert!(error.contains("that is the last instance"), "{error}");
}

#[test]
fn groups_and_packet_outs() {
    let mock = acme();
    let create = [
        "group",
        "create",
        "acme/edge",
        "7",
        "--type",
        "select",
        "--bucket",
        "output:1",
        "--bucket",
        "weight:3,watch_port:2,actions=pop_vlan,output:2",
    ];
    lime(&mock, &create).ok();
    assert_eq!(
        lime(&mock, &["group", "list", "acme/edge"]).ok(),
        "GROUP  TYPE    BUCKETS\n\
         \x20   7  select  output:1 | weight:3,watch_port:2,pop_vlan,output:2\n"
    );
    let show = lime(&mock, &["group", "show", "acme/edge", "7", "--json"]).json();
    assert_eq!(
        show["buckets"][1],
        "weight:3,watch_port:2,pop_vlan,output:2"
    );
    assert_eq!(
        (&show["packets"], &show["ref_count"]),
        (&12.into(), &1.into())
    );
    assert_eq!(show["bucket_counters"][1]["packets"], 0);
    let mut modify = create;
    (modify[1], modify[5]) = ("modify", "ff");
    let error = lime(&mock, &modify).failed(2);
    assert!(error.contains("weight 3"), "{error}");
    let modify = ["group", "modify", "acme/edge", "7", "--type", "all"];
    lime(&mock, &modify).ok();
    assert_eq!(
        lime(&mock, &["group", "list", "acme/edge"]).ok(),
        "GROUP  TYPE  BUCKETS\n\x20   7  all\n"
    );
    lime(&mock, &["group", "delete", "acme/edge"]).failed(2);
    lime(&mock, &["group", "delete", "acme/edge", "--all"]).ok();
    assert!(
        !lime(&mock, &["group", "list", "acme/edge"])
            .ok()
            .contains("all")
    );

    let frame = "ffffffffffff 020000000001 88b5 00";
    let text = lime(
        &mock,
        &[
            "packet-out",
            "acme/edge",
            "output:2,flood",
            "--packet",
            frame,
            "--in-port",
            "3",
        ],
    )
    .ok();
    assert_eq!(text, "15 bytes sent out of switch acme/edge\n");
    let sent = mock.state().packet_outs[0].packet_out.clone().unwrap();
    assert_eq!(
        (sent.in_port, sent.actions.len(), sent.data.len()),
        (3, 2, 15)
    );
    let short = ["packet-out", "acme/edge", "output:2", "--packet", "00"];
    assert!(lime(&mock, &short).failed(2).contains("a frame has 14"));
    let bad = ["packet-out", "acme/edge", "outpt:2", "--packet", frame];
    assert!(
        lime(&mock, &bad)
            .failed(2)
            .contains("did you mean \"output\"?")
    );
}

#[test]
fn stats_and_events() {
    let mock = acme();
    {
        let mut state = mock.state();
        state.stats.push(v1::PortStatsOf {
            network: "acme".to_owned(),
            switch: "edge".to_owned(),
            port_no: 1,
            counters: Some(v1::PortCounters {
                rx_packets: 5,
                rx_bytes: 500,
                drops: [("no_rule".to_owned(), 2), ("mtu".to_owned(), 0)].into(),
                ..Default::default()
            }),
            duration_ms: 0,
        });
        for version in 1..=3 {
            state.events.push(v1::ControllerEvent {
                network: "acme".to_owned(),
                switch: "edge".to_owned(),
                version,
                packet_in: Some(v1::PacketIn {
                    reason: v1::PacketInReason::Action.into(),
                    in_port: 1,
                    total_len: 60,
                    data: vec![2; 14],
                    ..Default::default()
                }),
                ..Default::default()
            });
        }
    }
    assert_eq!(
        lime(&mock, &["stats"]).ok(),
        "PORT         RX PACKETS  RX BYTES  TX PACKETS  TX BYTES  DROPS\n\
         acme/edge:1           5       500           0         0  no_rule=2\n"
    );
    let stats = lime(&mock, &["stats", "acme", "--json"]).json();
    assert_eq!(stats[0]["drops"]["no_rule"], 2);
    assert_eq!(
        lime(&mock, &["events"]).ok(),
        "acme/edge version=1 reason=action table=0 cookie=0x0 in_port=1 total_len=60: \
         02:02:02:02:02:02 > 02:02:02:02:02:02 type 0x0202\n"
    );
    let events = lime(&mock, &["events", "--follow", "--json"]).ok();
    let events: Vec<Value> = events
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(events.len(), 3);
    assert_eq!(events[2]["version"], 3);
}

const RUN: [&str; 7] = ["migrate", "run", "acme", "--from", "a", "--to", "b"];

#[test]
fn a_migration_ends_with_a_report() {
    let mock = acme();
    let args = [
        &RUN[..],
        &["--switch", "edge", "--port", "edge:1=veth9,plug:x"],
    ]
    .concat();
    assert_eq!(
        lime(&mock, &args).ok(),
        "migration 1 of network acme from a to b: completed after 1400 ms\n\
         rules cloned: 3\n\n\
         PHASE     START  DURATION\n\
         prepare    0 ms    700 ms\n\
         move     700 ms    700 ms\n\n\
         PORT         BLACKOUT\n\
         acme/edge:1  1.234 ms\n"
    );
    let request = mock.state().migrations[0].clone();
    assert_eq!(request.switches, ["edge"]);
    assert_eq!(request.device_template, "{device}");
    assert_eq!(
        (&*request.ports[0].device, &*request.ports[0].driver),
        ("veth9", "plug:x")
    );
    let json = lime(&mock, &[&RUN[..], &["--json"]].concat()).json();
    assert_eq!(json["state"], "completed");
    assert_eq!(json["port_moves"][0]["blackout_us"], 1234);
    let list = lime(&mock, &["migrate", "list"]).ok();
    assert_eq!(list.lines().count(), 3);
}

#[test]
fn a_migration_that_was_rolled_back_is_exit_code_6() {
    let mock = acme();
    mock.state().end = v1::migration::State::RolledBack;
    let run = lime(&mock, &RUN);
    assert!(
        run.stdout.contains("reason: host b went away"),
        "{}",
        run.stdout
    );
    assert_eq!(
        run.failed(6),
        "error: migration 1 was not carried out: it is rolled back (host b went away)\n"
    );
    // Asked for, it is a success.
    lime(&mock, &["migrate", "rollback", "1"]).ok();
    mock.state().end = v1::migration::State::Failed;
    assert_eq!(lime(&mock, &RUN).code, 6);
    let follow = lime(&mock, &["migrate", "status", "1", "--follow", "--json"]);
    let lines: Vec<Value> = follow
        .stdout
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(lines.last().unwrap()["state"], "failed");
}

#[test]
fn a_migration_is_followed_over_a_restart_of_the_coordinator() {
    let mock = acme();
    mock.state().breaks = 2;
    let text = lime(&mock, &RUN).ok();
    assert!(text.contains("completed"), "{text}");
}

#[test]
fn plans_and_detached_migrations() {
    let mock = acme();
    let plan = ["migrate", "plan", "acme", "--from", "a", "--to", "b"];
    assert_eq!(
        lime(&mock, &plan).ok(),
        "STEP  PHASE    WHAT\n\
         \x20  1  prepare  clone acme/edge to b\n\
         \x20  2  move     move acme/edge:1 to veth1 on b\n\n\
         rules to clone: 3\n"
    );
    let text = lime(&mock, &[&RUN[..], &["--detach"]].concat()).ok();
    assert_eq!(
        text,
        "migration 1 started; `lime migrate status 1` shows it\n"
    );
    let status = lime(&mock, &["migrate", "status", "1"]).ok();
    assert!(
        status.contains("running, step 1 of 2: clone acme/edge"),
        "{status}"
    );
    assert!(
        lime(&mock, &["migrate", "status", "9"])
            .failed(3)
            .contains("migration 9")
    );
    let nowhere = ["migrate", "run", "acme", "--from", "a", "--to", "z"];
    assert!(
        lime(&mock, &nowhere)
            .failed(3)
            .contains("host z does not exist")
    );
}

#[test]
fn a_host_is_drained_network_by_network() {
    let mock = acme();
    let mut port = mock.state().ports[0].clone();
    port.network = "beta".to_owned();
    mock.state().ports.push(port);
    let drain = [
        "host",
        "drain",
        "a",
        "--to",
        "b",
        "--device-template",
        "{switch}-{port}",
    ];
    let text = lime(&mock, &drain).ok();
    assert!(text.contains("host a is empty and cordoned"), "{text}");
    let state = mock.state();
    let networks: Vec<_> = state.migrations.iter().map(|m| &*m.network).collect();
    assert_eq!(networks, ["acme", "beta"]);
    assert_eq!(state.migrations[1].device_template, "{switch}-{port}");
    assert!(state.hosts[0].cordoned);
    drop(state);

    mock.state().end = v1::migration::State::Failed;
    let run = lime(&mock, &drain);
    assert!(run.stdout.contains("host a is not empty"), "{}", run.stdout);
    run.failed(6);
    // It stopped at the first.
    assert_eq!(mock.state().migrations.len(), 3);
    assert_eq!(lime(&mock, &["host", "drain", "a", "--to", "a"]).code, 2);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let mock = acme();
    let rules: Vec<_> = (0..2_000).map(|_| mock.state().rules[0].clone()).collect();
    mock.state().rules = rules;
    let mut child = Command::new(env!("CARGO_BIN_EXE_lime"))
        .args(["rule", "dump", "acme/edge", "--coordinator"])
        .arg(mock.address.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn a_stopped_watch_says_that_the_migration_goes_on() {
    let mock = acme();
    mock.state().hangs = true;
    let child = Command::new(env!("CARGO_BIN_EXE_lime"))
        .args(RUN)
        .args(["--coordinator", &mock.address.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while mock.state().watches == 0 {
        assert!(Instant::now() < deadline, "the migration is not watched");
        std::thread::yield_now();
    }
    let killed = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(killed.unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        error.contains("migration 1 goes on: `lime migrate status 1 --follow`"),
        "{error}"
    );
}

#[test]
fn a_silent_coordinator_is_not_waited_for_for_ever() {
    // Takes connections and says nothing.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let error = run_at(&address, &["network", "list", "--timeout", "1"], "").failed(5);
    assert!(
        error.contains("cannot list networks: no answer within 1 s"),
        "{error}"
    );
}
