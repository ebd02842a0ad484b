//! The real `lime` binary against a mock of the coordinator: bundles and meters. (Statistics: `tests/tests/statistics.rs`.)
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests panic like the tests themselves"
)]

#[allow(dead_code, reason = "the other test program uses the rest")]
mod mock;

use lime_proto::v1;
use mock::run::{lime, lime_with_input};
use mock::{Mock, State};

#[test]
fn a_bundle_goes_as_one_request() {
    let mock = Mock::start(State::default());
    let text = "# two of each\n\
        group group_id=1,type=all,bucket=output:1\n\
        flow add priority=5,ip,actions=group:1 # runs it\n\
        \n\
        flow delete\n\
        group delete\n";
    let said = lime_with_input(&mock, &["bundle", "acme/edge", "-"], text).ok();
    assert_eq!(
        said,
        "switch acme/edge: 4 changes, 1 rule added, 2 rules removed, at epoch 10\n"
    );
    let bundles = std::mem::take(&mut mock.state().bundles);
    assert_eq!((bundles.len(), bundles[0].mods.len()), (1, 4));
    let first = bundles[0].mods[0].change.as_ref().unwrap();
    assert!(matches!(first, v1::switch_mod::Change::Group(_)));
    // Nothing is sent of a file with an error, which is shown with its line.
    let bad = lime_with_input(
        &mock,
        &["bundle", "acme/edge", "-"],
        "flow actions=drop\nflow add ip,bad=1,actions=drop\n",
    );
    let error = bad.failed(2);
    assert!(error.contains("standard input: line 2, "), "{error}");
    assert!(mock.state().bundles.is_empty());
    lime(&mock, &["bundle", "acme/edge"]).failed(2);
}

#[test]
fn meters() {
    let mock = Mock::start(State::default());
    let edge = |command: &'static str, rest: &'static str| {
        let all = ["meter", command, "acme/edge", rest, "--json"];
        lime(&mock, &all[..if rest.is_empty() { 3 } else { 4 }])
    };
    let one = "meter=1,kbps,burst,stats,bands=type=drop,rate=1000,burst_size=100";
    edge("add", one).ok();
    edge(
        "add",
        "meter=2 pktps bands=type=dscp_remark rate=5 prec_level=1,type=drop,rate=9",
    )
    .ok();
    assert_eq!(
        edge("list", "").ok(),
        format!(
            "METER\n{one}\nmeter=2,pktps,bands=type=dscp_remark,rate=5,prec_level=1,type=drop,rate=9\n"
        )
    );
    let stats = edge("stats", "").ok();
    assert!(stats.contains("0/0 | 0/0"), "{stats}");
    let stats = lime(&mock, &["meter", "stats", "acme/edge", "2", "--json"]).json();
    assert_eq!(stats.as_array().unwrap().len(), 1);
    assert_eq!(
        (&stats[0]["packets_in"], &stats[0]["unit"]),
        (&12.into(), &"pktps".into())
    );
    assert_eq!(stats[0]["band_counters"][1]["packets"], 0);
    edge("modify", "meter=1,kbps,bands=type=drop,rate=7").ok();
    assert!(
        edge("list", "")
            .ok()
            .contains("meter=1,kbps,bands=type=drop,rate=7\n")
    );
    let said = edge("delete", "meter=2").ok();
    assert!(said.contains("2 rules"), "{said}");
    assert!(!edge("list", "").ok().contains("meter=2"));
    edge("delete", "all").ok();
    assert_eq!(edge("list", "").ok(), "METER\n");
    let error = edge("add", "meter=1,kbps,bands=type=drop,rate=0").failed(2);
    assert!(error.contains("rate 0"), "{error}");
    let error = edge("delete", "meter=9").failed(3);
    assert!(error.contains("meter 9"), "{error}");
}
