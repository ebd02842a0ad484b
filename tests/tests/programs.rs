//! The programs as people start them: `lime` against a live lab, and agents that cannot work.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod common;

use std::os::unix::process::CommandExt;
use std::process::Command;

use common::{assert_reaches, lab, lime, lime_ok};
use lime_proto::v1::PortAttach;
use lime_tests::lab::Lab;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_is_made_and_read_by_the_command_line() {
    let lab = lab(2, 2, PortAttach::Tc).await;
    let [h1, h2] = lab.end_hosts() else {
        unreachable!()
    };
    lime_ok(&lab, &["network", "create", "acme"]);
    lime_ok(&lab, &["switch", "create", "acme/edge", "--host", "a"]);
    for (n, end_host) in [("1", "h1"), ("2", "h2")] {
        let driver = lab.driver(end_host).unwrap();
        let port = format!("acme/edge:{n}");
        let device = Lab::port_device(end_host);
        let args = ["port", "create", &port, "--host", "a", "--device", &device];
        lime_ok(&lab, &[&args[..], &["--driver", &driver]].concat());
    }
    let rules = [
        "priority=10,arp,actions=flood",
        "priority=10,in_port=1,ip,actions=output:2",
        "priority=10,in_port=2,ip,actions=output:1",
    ];
    lime_ok(&lab, &[&["rule", "add", "acme/edge"][..], &rules].concat());
    assert_reaches(&lab, h1, h2, h2.ipv4());

    let dump = lime_ok(&lab, &["rule", "dump", "acme/edge"]);
    assert!(
        dump.contains("in_port=1") && dump.contains("actions=output:2"),
        "{dump}"
    );
    let json = lime_ok(&lab, &["--json", "stats", "acme"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert!(json.to_string().contains("rx_packets"), "{json}");
    let hosts = lime_ok(&lab, &["host", "list"]);
    assert!(
        hosts.contains("10.88.0.1") && hosts.contains("10.88.0.2"),
        "{hosts}"
    );

    for (args, named) in [
        (vec!["switch", "create", "acme/x", "--host", "mars"], "mars"),
        (
            vec![
                "port",
                "create",
                "acme/edge",
                "--host",
                "a",
                "--device",
                "gone0",
            ],
            "gone0",
        ),
        (
            vec!["rule", "add", "acme/edge", "nonsense=1,actions=output:1"],
            "nonsense",
        ),
        (vec!["network", "create", "acme"], "acme"),
    ] {
        let out = lime(&lab, &args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            !out.status.success() && text.contains(named),
            "{args:?}: {text}"
        );
    }
}

/// Makes `command` lack a capability, also as root.
fn without_capability(command: &mut Command, capability: libc::c_ulong) {
    // SAFETY: prctl is a plain system call.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) < 0 {
                return Err(std::io::Error::last_os_error());
            }
            Ok(())
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_cannot_work_says_why() {
    const CAP_NET_ADMIN: libc::c_ulong = 12;
    let lab = Lab::builder()
        .hosts(1)
        .fabric(lime_tests::lab::Fabric::LimeStopped)
        .build()
        .await
        .unwrap();
    let agent = |underlay: &str| {
        let mut agent = lab.command("a", "lime-agent").unwrap();
        agent
            .args(["--host", "a", "--underlay-device", underlay, "--bpffs"])
            .arg(lab.bpffs("a"))
            .arg("--state-dir")
            .arg(lab.name().scratch().join("state"))
            .env_remove("RUST_BACKTRACE");
        agent
    };
    let mut weak = agent("underlay0");
    without_capability(&mut weak, CAP_NET_ADMIN);
    for (mut command, named) in [(weak, "CAP_NET_ADMIN"), (agent("gone0"), "gone0")] {
        let out = command.output().unwrap();
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(
            !out.status.success() && text.contains(named),
            "{named}: {text}"
        );
        // Nothing half-done.
        assert!(!lab.bpffs("a").join("RULES").exists(), "{named}");
    }
}
