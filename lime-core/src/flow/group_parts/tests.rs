use super::*;
use crate::flow::Bucket;

fn out(port: u32) -> Bucket {
    Bucket::new(vec![Action::output(PortNo(port))])
}

fn runs(group: u32) -> Bucket {
    Bucket::new(vec![Action::Group(group)])
}

fn watching(port: u32) -> Bucket {
    Bucket {
        watch_port: Some(PortNo(port)),
        ..out(port)
    }
}

fn group(id: u32, kind: GroupType, buckets: Vec<Bucket>) -> Group {
    Group { id, kind, buckets }
}

struct Bed {
    table: GroupTable,
    next: u64,
}

impl Bed {
    fn new() -> Self {
        Self {
            table: GroupTable::default(),
            next: 0,
        }
    }

    fn apply(&mut self, mods: Vec<GroupMod>) -> Result<PartDelta, GroupModError> {
        let next = &mut self.next;
        self.table.apply(mods, || {
            *next += 1;
            RuleId(*next)
        })
    }

    fn add(&mut self, g: Group) -> Result<PartDelta, GroupModError> {
        self.apply(vec![GroupMod::Add(g)])
    }

    fn ops(&self, id: u32) -> Vec<ChoiceOp> {
        let choices = self
            .table
            .parts()
            .filter_map(|(_, rule)| match rule.part.as_deref() {
                Some(Part::Group(GroupPart {
                    group,
                    what: GroupPiece::Choice(choice),
                })) if *group == id => Some(choice.ops.clone()),
                _ => None,
            });
        choices.flatten().collect()
    }
}

#[test]
fn a_modified_group_keeps_its_head_and_gets_new_buckets() {
    let mut bed = Bed::new();
    let delta = bed
        .add(group(1, GroupType::Select, vec![out(1), out(2)]))
        .unwrap();
    // Head, choice, two buckets.
    assert_eq!((delta.added.len(), delta.removed.len()), (4, 0));
    let head = bed.table.head(1);
    let bucket = bed.table.bucket(1, 0);
    let delta = bed
        .apply(vec![GroupMod::Modify(group(
            1,
            GroupType::Select,
            vec![out(1), out(3)],
        ))])
        .unwrap();
    assert_eq!((delta.added.len(), delta.removed.len()), (3, 3));
    assert_eq!(bed.table.head(1), head);
    assert_ne!(bed.table.bucket(1, 0), bucket, "its counters begin anew");
    assert!(bed.table.part(head.unwrap()) && !bed.table.part(bucket.unwrap()));
    // Undone: as it was.
    for (id, rule) in &delta.added {
        bed.table.remove(*id, rule);
    }
    for (id, rule) in &delta.removed {
        bed.table.insert(*id, Arc::clone(rule));
    }
    assert_eq!(bed.table.bucket(1, 0), bucket);
    assert_eq!(bed.table.get(1).unwrap().buckets[1], out(2));
}

#[test]
fn a_table_can_be_made_again_from_its_parts() {
    let mut bed = Bed::new();
    let many = (1..=40).map(watching).collect();
    bed.add(group(7, GroupType::FastFailover, many)).unwrap();
    let mut again = GroupTable::default();
    for (id, rule) in bed.table.parts() {
        again.insert(id, Arc::clone(rule));
    }
    assert_eq!(again.get(7), bed.table.get(7));
    assert_eq!(again.head(7), bed.table.head(7));
    assert_eq!(again.bucket(7, 39), bed.table.bucket(7, 39));
    assert_eq!(again.watched().len(), 40);
}

#[test]
fn wrong_changes_change_nothing() {
    let mut bed = Bed::new();
    bed.add(group(1, GroupType::All, vec![out(1)])).unwrap();
    bed.add(group(2, GroupType::All, vec![runs(1)])).unwrap();
    let modify = |id, buckets| GroupMod::Modify(group(id, GroupType::All, buckets));
    let cases = [
        (
            GroupMod::Add(group(1, GroupType::All, vec![])),
            GroupModError::Exists(1),
        ),
        (modify(3, vec![]), GroupModError::Unknown(3)),
        (modify(1, vec![runs(2)]), GroupModError::Loop(1)),
        (modify(1, vec![runs(1)]), GroupModError::Loop(1)),
        (
            modify(1, vec![runs(9)]),
            GroupModError::UsesUnknown { id: 1, used: 9 },
        ),
        (
            GroupMod::Delete(Some(1)),
            GroupModError::Chained { id: 1, by: 2 },
        ),
    ];
    let before: Vec<_> = bed.table.parts().map(|(id, _)| id).collect();
    for (change, error) in cases {
        let good = GroupMod::Add(group(5, GroupType::Indirect, vec![out(1)]));
        assert_eq!(bed.apply(vec![good, change]), Err(error));
    }
    let after: Vec<_> = bed.table.parts().map(|(id, _)| id).collect();
    assert_eq!(before, after);
    assert!(bed.table.get(5).is_none());
    assert_eq!(
        bed.apply(vec![GroupMod::Delete(Some(9))]),
        Ok(PartDelta::default()),
        "no error: OpenFlow 1.3.5, 6.5"
    );
    let delta = bed.apply(vec![GroupMod::Delete(None)]).unwrap();
    assert_eq!(delta.deleted, BTreeSet::from([1, 2]));
    assert!(bed.table.is_empty() && bed.table.parts().next().is_none());
}

#[test]
fn watched_groups_are_watched_by_their_ports() {
    let mut bed = Bed::new();
    bed.add(group(
        1,
        GroupType::FastFailover,
        vec![watching(1), watching(2)],
    ))
    .unwrap();
    let watches = Bucket {
        watch_group: Some(1),
        ..runs(1)
    };
    let failover = group(2, GroupType::FastFailover, vec![watches, out(9)]);
    bed.add(failover).unwrap();
    let bucket = |live| ChoiceOp::Bucket { weight: 1, live };
    let expected = |also: &[u32]| {
        let mut ops = vec![bucket(Live::Port(PortNo(1)))];
        ops.extend(also.iter().map(|&p| ChoiceOp::Also(PortNo(p))));
        ops.push(bucket(Live::Always));
        ops
    };
    assert_eq!(bed.ops(2), expected(&[2]));
    // Who watches follows a change of what is watched, in the same entry, and keeps its buckets.
    let kept = bed.table.bucket(2, 0);
    bed.apply(vec![GroupMod::Modify(group(
        1,
        GroupType::FastFailover,
        vec![watching(1), watching(3)],
    ))])
    .unwrap();
    assert_eq!(bed.ops(2), expected(&[3]));
    assert_eq!(bed.table.bucket(2, 0), kept);
    bed.apply(vec![GroupMod::Modify(group(1, GroupType::Select, vec![]))])
        .unwrap();
    assert_eq!(bed.ops(2), [bucket(Live::Never), bucket(Live::Always)]);
}

#[test]
fn chains_of_groups_do_not_multiply_without_bounds() {
    let mut bed = Bed::new();
    bed.add(group(1, GroupType::All, (1..=16).map(out).collect()))
        .unwrap();
    bed.add(group(2, GroupType::All, vec![runs(1); 16]))
        .unwrap();
    let error = bed.add(group(3, GroupType::All, vec![runs(2), out(1)]));
    assert_eq!(
        error,
        Err(GroupModError::TooManyCopies { id: 3, copies: 257 })
    );
    // Also when the group at the far end grows.
    let more = group(1, GroupType::All, (1..=17).map(out).collect());
    assert!(matches!(
        bed.apply(vec![GroupMod::Modify(more)]),
        Err(GroupModError::TooManyCopies { id: 2, .. })
    ));
}

#[test]
fn groups_that_cannot_be_are_refused() {
    let cases = [
        group(GROUP_MAX_PLUS, GroupType::All, vec![]),
        group(1, GroupType::All, vec![out(1); 65]),
        group(1, GroupType::Indirect, vec![]),
        group(1, GroupType::All, vec![watching(1)]),
        group(
            1,
            GroupType::FastFailover,
            vec![Bucket {
                weight: 2,
                ..out(1)
            }],
        ),
        group(
            1,
            GroupType::Select,
            vec![Bucket {
                watch_port: Some(PortNo::FLOOD),
                ..out(1)
            }],
        ),
        group(
            1,
            GroupType::Select,
            vec![Bucket::new(vec![Action::output(PortNo::TABLE)])],
        ),
    ];
    for case in cases {
        assert!(case.check().is_err(), "{case:?}");
    }
}

const GROUP_MAX_PLUS: u32 = crate::flow::GROUP_MAX + 1;
