//! The real `lime` binary against a mock of the coordinator: bundles and statistics.
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
