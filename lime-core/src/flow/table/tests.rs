//! What adds and deletes do, one by one and against a model.

use proptest::prelude::*;

use super::*;
use crate::PortNo;
use crate::flow::{Action, Field, FieldMatch};

fn rule(table: u8, priority: u16, port: u32, cookie: u64) -> Rule {
    Rule {
        table,
        priority,
        cookie,
        matching: in_port(port),
        actions: vec![Action::output(PortNo(1))],
        goto_table: None,
        idle_timeout: 0,
        hard_timeout: 0,
        ..Rule::default()
    }
}

fn in_port(port: u32) -> Match {
    let (field, mask) = (Field::InPort, Field::InPort.full_mask());
    let value = port.into();
    Match::new([FieldMatch { field, value, mask }]).unwrap()
}

fn ids() -> impl FnMut() -> RuleId {
    let mut n = 0;
    move || {
        n += 1;
        RuleId(n)
    }
}

fn listed(table: &FlowTable) -> Vec<u64> {
    table.iter().map(|(id, _)| id.0).collect()
}

#[test]
fn rules_come_by_table_priority_and_age() {
    let mut table = FlowTable::new();
    let rules = [
        rule(1, 5, 1, 0),
        rule(0, 5, 1, 0),
        rule(0, 9, 2, 0),
        rule(0, 5, 3, 0),
    ];
    table.apply(rules.map(FlowMod::Add), 10, ids()).unwrap();
    assert_eq!(listed(&table), [3, 2, 4, 1]);
    assert_eq!(table.table(1).count(), 1);
}

#[test]
fn an_add_replaces_the_same_rule() {
    let mut table = FlowTable::new();
    let mut next = ids();
    table
        .apply([FlowMod::Add(rule(0, 5, 1, 1))], 10, &mut next)
        .unwrap();
    let delta = table
        .apply(
            [
                FlowMod::Add(rule(0, 5, 1, 2)),
                FlowMod::Add(rule(0, 5, 1, 3)),
            ],
            10,
            &mut next,
        )
        .unwrap();
    // The one in between is not seen; the last stands for the first.
    assert_eq!(delta.added.keys().collect::<Vec<_>>(), [&RuleId(3)]);
    assert_eq!(delta.added[&RuleId(3)].replaces, Some(RuleId(1)));
    assert_eq!(delta.removed.keys().collect::<Vec<_>>(), [&RuleId(1)]);
    assert_eq!(table.get(RuleId(3)).unwrap().cookie, 3);
}

#[test]
fn a_rule_added_and_deleted_in_one_update_is_in_no_list() {
    let mut table = FlowTable::new();
    let delta = table
        .apply(
            [
                FlowMod::Add(rule(0, 5, 1, 1)),
                FlowMod::Delete(RuleFilter::all()),
            ],
            10,
            ids(),
        )
        .unwrap();
    assert!(delta.is_empty() && table.is_empty());
}

#[test]
fn a_rule_after_a_delete_replaces_nothing() {
    let mut table = FlowTable::new();
    let mut next = ids();
    table
        .apply([FlowMod::Add(rule(0, 5, 1, 1))], 10, &mut next)
        .unwrap();
    let delta = table
        .apply(
            [
                FlowMod::Delete(RuleFilter::all()),
                FlowMod::Add(rule(0, 5, 1, 1)),
            ],
            10,
            &mut next,
        )
        .unwrap();
    assert_eq!(delta.added[&RuleId(2)].replaces, None);
    assert!(delta.removed.contains_key(&RuleId(1)));
}

#[test]
fn deletes_look_at_table_match_priority_and_cookie() {
    let full = || {
        let mut table = FlowTable::new();
        let rules = [
            rule(0, 5, 1, 0x11),
            rule(0, 6, 1, 0x12),
            rule(0, 5, 2, 0x21),
            rule(1, 5, 1, 0x11),
        ];
        table.apply(rules.map(FlowMod::Add), 10, ids()).unwrap();
        table
    };
    let left = |m: FlowMod| {
        let mut table = full();
        let before = table.clone();
        let delta = table.apply([m], 10, ids()).unwrap();
        let left = listed(&table);
        table.revert(delta);
        assert_eq!(listed(&table), listed(&before));
        left
    };
    let filter = |f: fn(&mut RuleFilter)| {
        let mut filter = RuleFilter::all();
        f(&mut filter);
        filter
    };
    assert_eq!(left(FlowMod::Delete(filter(|_| {}))), [0u64; 0]);
    assert_eq!(left(FlowMod::Delete(filter(|f| f.table = 0))), [4]);
    assert_eq!(
        left(FlowMod::Delete(filter(|f| f.matching = in_port(1)))),
        [3]
    );
    assert_eq!(
        left(FlowMod::Delete(filter(|f| {
            f.cookie = 0x10;
            f.cookie_mask = 0xf0;
        }))),
        [3]
    );
    let strict = |f: &mut RuleFilter| {
        f.matching = in_port(1);
        f.priority = 5;
    };
    assert_eq!(left(FlowMod::DeleteStrict(filter(strict))), [2, 3]);
    assert_eq!(
        left(FlowMod::DeleteStrict(filter(|f| f.priority = 5))),
        [2, 1, 3, 4]
    );
    assert_eq!(
        left(FlowMod::DeleteStrict(filter(|f| {
            f.matching = in_port(1);
            f.priority = 5;
            f.table = 1;
            f.cookie = 1;
            f.cookie_mask = u64::MAX;
        }))),
        [2, 1, 3, 4]
    );
}

#[test]
fn a_full_table_is_left_as_it_was() {
    let mut table = FlowTable::new();
    let mut next = ids();
    let two = [rule(0, 5, 1, 1), rule(0, 5, 2, 1)];
    table.apply(two.map(FlowMod::Add), 2, &mut next).unwrap();
    let more = [
        FlowMod::Add(rule(0, 5, 1, 9)),
        FlowMod::Add(rule(0, 5, 3, 9)),
    ];
    let full = table.apply(more, 2, &mut next).unwrap_err();
    assert_eq!(full, TableFull { rules: 3, limit: 2 }.into());
    assert_eq!(listed(&table), [1, 2]);
    assert!(table.iter().all(|(_, r)| r.cookie == 1));
}

#[test]
fn modifications_change_what_rules_do_and_nothing_else() {
    let mut table = FlowTable::new();
    let mut next = ids();
    let rules = [rule(0, 5, 1, 1), rule(0, 5, 2, 2), rule(1, 5, 1, 1)];
    table.apply(rules.map(FlowMod::Add), 10, &mut next).unwrap();
    let modify = |matching: Match, cookie_mask, strict| {
        FlowMod::Modify(Modify {
            rule: Rule {
                priority: 5,
                cookie: 1,
                matching,
                actions: vec![crate::flow::Action::Group(7)],
                hard_timeout: 3,
                ..Rule::default()
            },
            cookie_mask,
            strict,
            reset_counts: false,
        })
    };
    // Strict, and there is none: nothing is added.
    let nothing = table.apply([modify(Match::any(), 0, true)], 10, &mut next);
    assert!(nothing.unwrap().is_empty());
    // By cookie: one of the two in the table.
    let delta = table
        .apply([modify(Match::any(), u64::MAX, false)], 10, &mut next)
        .unwrap();
    assert_eq!((delta.added.len(), delta.removed.len()), (1, 1));
    let added = delta.added.values().next().unwrap();
    assert!(added.modified && !added.reset_counts);
    assert_eq!(added.replaces, Some(RuleId(1)));
    let expected = Rule {
        actions: vec![crate::flow::Action::Group(7)],
        ..rule(0, 5, 1, 1)
    };
    assert_eq!(*added.rule, expected);
    // The same again is no change.
    let again = table.apply([modify(Match::any(), u64::MAX, false)], 10, &mut next);
    assert!(again.unwrap().is_empty());
}

#[test]
fn overlapping_rules_are_refused_where_asked() {
    let mut table = FlowTable::new();
    let mut next = ids();
    let there = rule(0, 5, 1, 1);
    table
        .apply([FlowMod::Add(there.clone())], 10, &mut next)
        .unwrap();
    let check = |rule| {
        let flags = crate::flow::AddFlags {
            check_overlap: true,
            reset_counts: false,
        };
        FlowMod::AddWith(rule, flags)
    };
    let wide = Rule {
        matching: Match::any(),
        ..there.clone()
    };
    let two = [FlowMod::Add(rule(0, 5, 2, 1)), check(wide.clone())];
    let error = table.apply(two, 10, &mut next).unwrap_err();
    assert!(matches!(error, UpdateError::Overlap { index: 1, .. }));
    assert_eq!(table.len(), 1, "all or nothing");
    for fine in [
        Rule {
            priority: 6,
            ..wide.clone()
        },
        Rule { table: 1, ..wide },
        rule(0, 5, 3, 1),
    ] {
        table.apply([check(fine)], 10, &mut next).unwrap();
    }
}

#[test]
fn many_rules_are_quick() {
    let mut table = FlowTable::new();
    let mut next = ids();
    let rules = || (1..=100_000).map(|n| rule(0, 5, n, 0));
    let started = std::time::Instant::now();
    for _ in 0..2 {
        let delta = table
            .apply(rules().map(FlowMod::Add), 100_000, &mut next)
            .unwrap();
        assert_eq!(delta.added.len(), 100_000);
    }
    let strict = rules().map(|r| {
        FlowMod::DeleteStrict(RuleFilter {
            table: 0,
            priority: 5,
            matching: r.matching,
            ..RuleFilter::all()
        })
    });
    table.apply(strict, 100_000, &mut next).unwrap();
    assert!(table.is_empty());
    // Quadratic work would take minutes even on an idle machine; this leaves room for a loaded one.
    assert!(started.elapsed().as_secs() < 30, "{:?}", started.elapsed());
}

// ---- against a model: a plain list of rules ----

/// Few values, so that rules meet each other.
fn any_match() -> impl Strategy<Value = Match> {
    (0..3u128, prop::option::of(0..3u128)).prop_map(|(port, mac)| {
        let exact = |field: Field, value| FieldMatch {
            field,
            value,
            mask: field.full_mask(),
        };
        // Port 0 stands for no match on the port.
        let port = (port > 0).then(|| exact(Field::InPort, port));
        let mac = mac.map(|mac| exact(Field::EthDst, mac));
        Match::new(port.into_iter().chain(mac)).unwrap()
    })
}

fn any_mod() -> impl Strategy<Value = FlowMod> {
    let filter = (
        prop_oneof![0..3u8, Just(ALL_TABLES)],
        0..3u16,
        0..4u64,
        prop_oneof![Just(0u64), Just(3), Just(1)],
        any_match(),
    )
        .prop_map(
            |(table, priority, cookie, cookie_mask, matching)| RuleFilter {
                table,
                priority,
                cookie,
                cookie_mask,
                matching,
                ..RuleFilter::all()
            },
        );
    let add =
        (0..3u8, 0..3u16, 0..4u64, any_match()).prop_map(|(table, priority, cookie, matching)| {
            FlowMod::Add(Rule {
                matching,
                ..rule(table, priority, 1, cookie)
            })
        });
    prop_oneof![
        6 => add,
        2 => (filter, any::<bool>()).prop_map(|(filter, strict)| match strict {
            true => FlowMod::DeleteStrict(filter),
            false => FlowMod::Delete(filter),
        }),
    ]
}

/// The obvious way to do it.
fn model(rules: &mut Vec<(RuleId, Rule)>, m: FlowMod, id: RuleId) {
    match m {
        FlowMod::Add(new) => {
            let same = |r: &Rule| {
                (r.table, r.priority, &r.matching) == (new.table, new.priority, &new.matching)
            };
            rules.retain(|(_, r)| !same(r));
            rules.push((id, new));
        }
        FlowMod::AddWith(..) | FlowMod::Modify(_) => unreachable!("not among the random changes"),
        FlowMod::Delete(filter) => rules.retain(|(_, r)| !filter.selects(r, false)),
        FlowMod::DeleteStrict(filter) => rules.retain(|(_, r)| !filter.selects(r, true)),
    }
}

fn contents(table: &FlowTable) -> Vec<(RuleId, Rule)> {
    table.iter().map(|(id, r)| (id, (**r).clone())).collect()
}

proptest! {
    #[test]
    fn invariant_the_table_is_what_a_plain_list_would_be(
        updates in prop::collection::vec(prop::collection::vec(any_mod(), 0..12), 1..6)
    ) {
        let mut table = FlowTable::new();
        let mut expected = Vec::new();
        let mut id = 0;
        for update in updates {
            let before = contents(&table);
            let first = id;
            for (n, m) in (first + 1..).zip(&update) {
                model(&mut expected, m.clone(), RuleId(n));
            }
            // The model counts deletes too; so does this, by giving ids to match.
            let mut numbers = (first + 1..)
                .zip(&update)
                .filter(|(_, m)| matches!(m, FlowMod::Add(_)))
                .map(|(n, _)| RuleId(n))
                .collect::<Vec<_>>()
                .into_iter();
            id += update.len() as u64;
            let delta = table
                .apply(update, usize::MAX, || numbers.next().unwrap())
                .unwrap();

            expected.sort_by_key(|(id, r)| (r.table, Reverse(r.priority), *id));
            prop_assert_eq!(contents(&table), expected.clone());
            prop_assert_eq!(table.len(), expected.len());

            // The delta is exactly the difference, and replacements are of the same rule.
            let mut applied: BTreeMap<_, _> = before.iter().cloned().collect();
            for (id, rule) in &delta.removed {
                let old = applied.remove(id);
                prop_assert_eq!(old.as_ref(), Some(&**rule));
            }
            for (id, added) in &delta.added {
                prop_assert!(applied.insert(*id, (*added.rule).clone()).is_none());
                if let Some(old) = added.replaces {
                    let old = Identity(delta.removed[&old].clone());
                    prop_assert_eq!(old, Identity(added.rule.clone()));
                }
            }
            prop_assert_eq!(applied, expected.iter().cloned().collect::<BTreeMap<_, _>>());

            let mut undone = table.clone();
            undone.revert(delta);
            prop_assert_eq!(contents(&undone), before);
        }
    }
}
