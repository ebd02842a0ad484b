//! Requests that cannot be granted: each is refused with an error that names the thing, before anything changed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use common::{assert_reaches, flood, lab, one_switch, tenant};
use lime_proto::v1::{
    Consistency, CreateLinkRequest, CreateNetworkRequest, CreatePortRequest, CreateSwitchRequest,
    FieldMatch, FlowMod, ListMigrationsRequest, ListNetworksRequest, ListPortsRequest,
    ListSwitchesRequest, MigrationRequest, PortAttach, Rule, UpdateRulesRequest,
};
use lime_tests::lab::{Lab, LabError};
use lime_tests::rules::RuleSpec;
use lime_tests::tenant::Tenant;
use tonic::{Code, Status};

/// Asserts that a request was refused with one of these codes, and that the message names the thing.
#[track_caller]
fn assert_refused<T: std::fmt::Debug>(answer: Result<T, Status>, codes: &[Code], names: &str) {
    match answer {
        Ok(done) => panic!("granted: {done:?}"),
        Err(status) => {
            assert!(codes.contains(&status.code()), "{status:?}");
            assert!(
                status.message().contains(names),
                "`{names}` is not in {status:?}"
            );
        }
    }
}

fn port(network: &str, switch: &str, host: &str, device: &str) -> CreatePortRequest {
    CreatePortRequest {
        network: network.into(),
        switch: switch.into(),
        port_no: 0,
        host: host.into(),
        device: device.into(),
        attach: PortAttach::Tc.into(),
        driver: String::new(),
        mtu: 0,
        no_flood: false,
        external: false,
    }
}

async fn count_ports(tenant: &Tenant) -> usize {
    let request = ListPortsRequest {
        network: "net".into(),
        switch: String::new(),
    };
    let ports = tenant.client().list_ports(request).await.unwrap();
    ports.into_inner().ports.len()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn things_that_do_not_exist_are_named() {
    let lab = lab(1, 1, PortAttach::Tc).await;
    let tenant = one_switch(&lab, PortAttach::Tc).await;
    let mut client = tenant.client();
    let switch = |network: &str, name: &str, host: &str| CreateSwitchRequest {
        network: network.into(),
        name: name.into(),
        host: host.into(),
        packet_ins: None,
    };
    let answer = client.create_switch(switch("nowhere", "s9", "a")).await;
    assert_refused(answer, &[Code::NotFound], "nowhere");
    let answer = client.create_switch(switch("net", "s9", "nohost")).await;
    assert_refused(answer, &[Code::NotFound], "nohost");
    let answer = client
        .create_port(port("net", "noswitch", "a", "vm-h1"))
        .await;
    assert_refused(answer, &[Code::NotFound], "noswitch");
    let answer = client
        .create_port(port("net", "s1", "nohost", "vm-h1"))
        .await;
    assert_refused(answer, &[Code::NotFound], "nohost");
    let answer = client.create_port(port("net", "s1", "a", "nodevice")).await;
    assert_refused(
        answer,
        &[Code::NotFound, Code::FailedPrecondition],
        "nodevice",
    );
    let rules = UpdateRulesRequest {
        network: "net".into(),
        switch: "noswitch".into(),
        mods: vec![RuleSpec::new(1).add()],
    };
    assert_refused(
        client.update_rules(rules).await,
        &[Code::NotFound],
        "noswitch",
    );
    assert_eq!(count_ports(&tenant).await, 1);
    let request = ListSwitchesRequest {
        network: "net".into(),
    };
    let switches = client.list_switches(request).await.unwrap().into_inner();
    assert_eq!(switches.switches.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_unique_and_well_formed() {
    let lab = lab(1, 1, PortAttach::Tc).await;
    let tenant = one_switch(&lab, PortAttach::Tc).await;
    let mut client = tenant.client();
    let network = |name: &str| CreateNetworkRequest {
        name: name.into(),
        consistency: Consistency::Causal.into(),
    };
    let answer = client.create_network(network("net")).await;
    assert_refused(answer, &[Code::AlreadyExists], "net");
    for bad in ["", "a/b", "a:b", "a b", &"x".repeat(1000)] {
        let answer = client.create_network(network(bad)).await;
        assert_refused(answer, &[Code::InvalidArgument], "");
    }
    let again = CreateSwitchRequest {
        network: "net".into(),
        name: "s1".into(),
        host: "a".into(),
        packet_ins: None,
    };
    let answer = client.create_switch(again).await;
    assert_refused(answer, &[Code::AlreadyExists], "s1");
    let mut taken = port("net", "s1", "a", "vm-h1");
    taken.port_no = 1;
    let answer = client.create_port(taken).await;
    assert_refused(answer, &[Code::AlreadyExists], "1");
    let networks = client.list_networks(ListNetworksRequest {}).await.unwrap();
    assert_eq!(networks.into_inner().networks.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_one_port_only() {
    let lab = lab(1, 2, PortAttach::Tc).await;
    let mut tenant = one_switch(&lab, PortAttach::Tc).await;
    let answer = tenant
        .client()
        .create_port(port("net", "s1", "a", "vm-h1"))
        .await;
    let codes = [Code::AlreadyExists, Code::FailedPrecondition];
    assert_refused(answer, &codes, "vm-h1");
    assert_eq!(count_ports(&tenant).await, 2);
    // Links' ends are ports too.
    let link = CreateLinkRequest {
        network: "net".into(),
        switch_a: "s1".into(),
        port_a: 1,
        switch_b: "s1".into(),
        port_b: 9,
    };
    let answer = tenant.client().create_link(link).await;
    let codes = [
        Code::AlreadyExists,
        Code::FailedPrecondition,
        Code::InvalidArgument,
    ];
    assert_refused(answer, &codes, "");
    flood(&mut tenant, "s1").await;
    let [h1, h2] = lab.end_hosts() else {
        unreachable!()
    };
    assert_reaches(&lab, h1, h2, h2.ipv4());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn malformed_rules_are_refused_whole() {
    let lab = lab(1, 1, PortAttach::Tc).await;
    let mut tenant = one_switch(&lab, PortAttach::Tc).await;
    let mut client = tenant.client();
    let field = |field: u32, value: &[u8], mask: &[u8]| FieldMatch {
        field,
        value: value.into(),
        mask: mask.into(),
    };
    let matching = |fields: Vec<FieldMatch>| FlowMod {
        rule: Some(Rule {
            priority: 5,
            r#match: fields,
            ..Rule::default()
        }),
        ..FlowMod::default()
    };
    let bad = [
        (
            "a value of the wrong length",
            matching(vec![field(3, &[1, 2], &[])]),
        ),
        ("an unknown field", matching(vec![field(9999, &[1], &[])])),
        (
            "bits outside of the mask",
            matching(vec![field(11, &[10, 0, 0, 1], &[255, 255, 255, 0])]),
        ),
        (
            "a missing prerequisite",
            matching(vec![field(16, &[0, 7], &[])]),
        ),
        ("a priority that is too high", RuleSpec::new(70_000).add()),
        (
            "a table that does not exist",
            RuleSpec::new(1).table(200).add(),
        ),
        (
            "going back to a table",
            RuleSpec::new(1).table(3).goto(1).add(),
        ),
        ("no rule at all", FlowMod::default()),
        (
            "too many actions",
            (0..100).fold(RuleSpec::new(1), |r, _| r.output(1)).add(),
        ),
    ];
    for (what, change) in bad {
        // A good rule before it must not stay.
        let request = UpdateRulesRequest {
            network: "net".into(),
            switch: "s1".into(),
            mods: vec![RuleSpec::new(1).cookie(1).output(1).add(), change],
        };
        match client.update_rules(request).await {
            Ok(done) => panic!("{what}: granted: {done:?}"),
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{what}: {status:?}"),
        }
        assert_eq!(tenant.rule_stats("s1").await.unwrap(), [], "{what}");
    }
}

async fn refused_migration(tenant: &mut Tenant, request: MigrationRequest) -> Status {
    match tenant.start_migration(request).await {
        Err(LabError::Rpc { status, .. }) => *status,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrations_that_cannot_work_do_not_start() {
    let lab = lab(2, 2, PortAttach::Tc).await;
    let mut tenant = one_switch(&lab, PortAttach::Tc).await;
    flood(&mut tenant, "s1").await;
    let good = tenant.migration_request("a", "b");

    let mut request = good.clone();
    request.to = "nohost".into();
    let status = refused_migration(&mut tenant, request).await;
    assert!(
        status.code() == Code::NotFound && status.message().contains("nohost"),
        "{status:?}"
    );

    let mut request = good.clone();
    request.to = "a".into();
    let status = refused_migration(&mut tenant, request).await;
    assert!(
        matches!(
            status.code(),
            Code::InvalidArgument | Code::FailedPrecondition
        ),
        "{status:?}"
    );

    let mut request = good.clone();
    request.switches = vec!["noswitch".into()];
    let status = refused_migration(&mut tenant, request).await;
    assert!(status.message().contains("noswitch"), "{status:?}");

    let mut request = good.clone();
    request.ports[1].device = "nodevice".into();
    let status = refused_migration(&mut tenant, request).await;
    assert!(status.message().contains("nodevice"), "{status:?}");

    lab.kill_agent("b").unwrap();
    lab.wait_ready().await.unwrap();
    let status = refused_migration(&mut tenant, good).await;
    assert!(
        matches!(status.code(), Code::Unavailable | Code::FailedPrecondition),
        "{status:?}"
    );
    assert!(status.message().contains('b'), "{status:?}");

    let mut client = tenant.client();
    let all = client
        .list_migrations(ListMigrationsRequest {})
        .await
        .unwrap();
    assert_eq!(all.into_inner().migrations, []);
    let [h1, h2] = lab.end_hosts() else {
        unreachable!()
    };
    assert_reaches(&lab, h1, h2, h2.ipv4());
    assert_eq!(lab.plugged_at("h1").await.unwrap(), Some("a"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_underlay_that_is_too_narrow_is_refused() {
    let lab = Lab::builder()
        .hosts(2)
        .end_hosts(2)
        .underlay_mtu(1500)
        .build()
        .await
        .unwrap_or_else(|e| panic!("{e}"));
    let mut tenant = tenant(&lab, PortAttach::Tc).await;
    tenant.switch("s1", "a").await.unwrap();
    tenant.port(&lab, "s1", 1, "h1", "a").await.unwrap();
    // A 1,500-byte packet of h2 would not fit the tunnel to the instance on host a.
    let refused = tenant.port(&lab, "s1", 2, "h2", "b").await;
    let Err(LabError::Rpc { status, .. }) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        status.message().to_lowercase().contains("mtu"),
        "{status:?}"
    );
    assert_eq!(count_ports(&tenant).await, 1);
}
