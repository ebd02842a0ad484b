//! The lab itself: it carries traffic, and nothing of it stays.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::path::Path;
use std::time::{Duration, Instant};

use lime_tests::lab::{Fabric, Lab, LabName, cleanup, registry};
use lime_tests::traffic::{Origin, TcpFlow, TcpSpec, UdpFlow, UdpSpec, reach};

async fn bridge_lab(end_hosts: usize) -> Lab {
    Lab::builder()
        .hosts(2)
        .end_hosts(end_hosts)
        .fabric(Fabric::Bridge)
        .build()
        .await
        .expect("a lab joined by a bridge")
}

fn assert_gone(name: &LabName) {
    assert_eq!(cleanup::namespaces(name), Vec::<String>::new());
    for path in [name.registry(), name.bpffs(), name.scratch()] {
        assert!(!path.exists(), "{} is left", path.display());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn end_hosts_reach_each_other_by_both_families() {
    let lab = bridge_lab(2).await;
    let (a, b) = (&lab.end_hosts()[0], &lab.end_hosts()[1]);
    for target in [b.ipv4().into(), b.ipv6().into()] {
        assert!(
            reach(a, b, target, Duration::from_secs(3)).unwrap().yes(),
            "{target}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flows_over_a_bridge_are_clean() {
    let lab = bridge_lab(2).await;
    let (a, b) = (&lab.end_hosts()[0], &lab.end_hosts()[1]);
    let origin = Origin::now();
    let udp = UdpFlow::start(
        &UdpSpec {
            name: "udp".into(),
            rate: 2000,
            payload: 200,
            port: 5000,
            ipv6: false,
        },
        a,
        b,
        origin,
    )
    .unwrap();
    let tcp = TcpFlow::start(
        &TcpSpec {
            name: "tcp".into(),
            rate: 1000,
            port: 5001,
            ipv6: true,
        },
        b,
        a,
        origin,
    )
    .unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (udp, _) = udp.finish().unwrap();
    let (tcp, _) = tcp.finish().unwrap();
    assert!(udp.is_clean() && udp.sent > 1500, "{udp:?}");
    assert!(tcp.is_clean() && tcp.sent > 500, "{tcp:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_lab_leaves_nothing() {
    let lab = bridge_lab(3).await;
    let name = lab.name().clone();
    assert_eq!(cleanup::namespaces(&name).len(), 6);
    drop(lab);
    assert_gone(&name);
}

#[test]
fn a_panic_leaves_nothing() {
    let name = LabName::unique();
    let theirs = name.clone();
    let result = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let _lab = Lab::builder()
                .name(theirs)
                .hosts(1)
                .fabric(Fabric::Bridge)
                .build()
                .await
                .unwrap();
            panic!("on purpose");
        });
    })
    .join();
    assert!(result.is_err());
    assert_gone(&name);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_checked_and_taken_once() {
    let name = LabName::unique();
    let build = || {
        Lab::builder()
            .name(name.clone())
            .fabric(Fabric::Bridge)
            .build()
    };
    let lab = build().await.unwrap();
    let error = build().await.unwrap_err().to_string();
    assert!(
        error.contains(name.as_str()) && error.contains("is up"),
        "{error}"
    );
    drop(lab);
    let error = Lab::builder()
        .named_end_hosts(&["../etc"])
        .build()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("../etc"));
    assert!(Path::new("/run/netns").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_plug_decides_where_an_end_host_is() {
    let lab = Lab::builder()
        .hosts(2)
        .end_hosts(1)
        .fabric(Fabric::LimeStopped)
        .build()
        .await
        .unwrap();
    let end_host = &lab.end_hosts()[0];
    for host in ["a", "b", "a"] {
        lab.plug_in("h1", host).await.unwrap();
        assert_eq!(lab.plugged_at("h1").await.unwrap(), Some(host));
        let links = lab.host(host).unwrap().links();
        let device = Lab::port_device("h1");
        let before = links.stats(&device).await.unwrap().rx_packets;
        // Nobody has that address: three broadcasts ask for it.
        let socket = end_host
            .netns()
            .run(|| std::net::UdpSocket::bind("0.0.0.0:0"))
            .unwrap()
            .unwrap();
        socket.send_to(b"x", "10.0.0.99:9").unwrap();
        let deadline = Instant::now() + Duration::from_secs(3);
        while links.stats(&device).await.unwrap().rx_packets == before {
            assert!(Instant::now() < deadline, "nothing came in at {host}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

const VICTIM: &str = "LIME_TEST_VICTIM_LAB";

/// Not a test: what [`an_owner_killed_by_sigkill_leaves_nothing`] runs and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a helper that the test beside it starts"]
async fn victim() {
    let name = LabName::parse(&std::env::var(VICTIM).unwrap()).unwrap();
    let _lab = Lab::builder()
        .name(name)
        .hosts(2)
        .end_hosts(2)
        .fabric(Fabric::LimeStopped)
        .build()
        .await
        .unwrap();
    std::future::pending::<()>().await;
}

#[test]
fn an_owner_killed_by_sigkill_leaves_nothing() {
    let name = LabName::unique();
    let mut victim = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "victim"])
        .env(VICTIM, name.as_str())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let wait = |what: &str, condition: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !condition() {
            assert!(Instant::now() < deadline, "{what}");
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait("the lab does not come up", &|| {
        registry::list().iter().any(|(n, _)| *n == name)
    });
    victim.kill().unwrap();
    victim.wait().unwrap();
    wait("the lab does not go away", &|| !name.registry().exists());
    assert_gone(&name);
}
