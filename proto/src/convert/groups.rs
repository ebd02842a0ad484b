//! Groups, their changes, and the parts that agents get of them.

use lime_core::PortNo;
use lime_core::flow::{
    Bucket, CHOICE_OPS, Choice, ChoiceOp, Group, GroupMod, GroupPart, GroupPiece, Live,
    MAX_BUCKETS, MAX_CHOICES,
};

use super::error::{ConvertError, Problem, bounded, narrow};
use super::messages::enum_from_wire;
use super::rules::{actions_from_wire, actions_to_wire};
use crate::v1;

impl TryFrom<v1::Group> for Group {
    type Error = ConvertError;

    /// The group has passed [`Group::check`].
    fn try_from(wire: v1::Group) -> Result<Self, ConvertError> {
        bounded("buckets", wire.buckets.len(), MAX_BUCKETS)?;
        let mut buckets = Vec::with_capacity(wire.buckets.len());
        for (i, bucket) in wire.buckets.into_iter().enumerate() {
            let read = |bucket: v1::Bucket| {
                Ok(Bucket {
                    weight: narrow("weight", bucket.weight.unwrap_or(1), 0xffff)?,
                    watch_port: bucket.watch_port.map(PortNo),
                    watch_group: bucket.watch_group,
                    actions: actions_from_wire("actions", bucket.actions)?,
                })
            };
            let within = |e: ConvertError| e.within(&format!("buckets[{i}]"));
            buckets.push(read(bucket).map_err(within)?);
        }
        let group = Group {
            id: wire.group_id,
            kind: enum_from_wire::<v1::GroupType, _>("type", wire.r#type)?,
            buckets,
        };
        group.check().map_err(|e| ConvertError::new("group", e))?;
        Ok(group)
    }
}

impl From<&Group> for v1::Group {
    fn from(group: &Group) -> Self {
        let buckets = group.buckets.iter().map(|b| v1::Bucket {
            actions: actions_to_wire(&b.actions),
            weight: Some(b.weight.into()),
            watch_port: b.watch_port.map(|p| p.0),
            watch_group: b.watch_group,
        });
        Self {
            group_id: group.id,
            r#type: v1::GroupType::from(group.kind).into(),
            buckets: buckets.collect(),
        }
    }
}

impl TryFrom<v1::GroupMod> for GroupMod {
    type Error = ConvertError;

    fn try_from(wire: v1::GroupMod) -> Result<Self, ConvertError> {
        use v1::group_mod::Change;
        let change = wire.change;
        match change.ok_or_else(|| ConvertError::new("change", Problem::Missing))? {
            Change::Add(group) => Ok(GroupMod::Add(
                Group::try_from(group).map_err(|e| e.within("add"))?,
            )),
            Change::Modify(group) => Ok(GroupMod::Modify(
                Group::try_from(group).map_err(|e| e.within("modify"))?,
            )),
            Change::Delete(id) => Ok(GroupMod::Delete(Some(id))),
            Change::DeleteAll(_) => Ok(GroupMod::Delete(None)),
        }
    }
}

impl From<&GroupMod> for v1::GroupMod {
    fn from(change: &GroupMod) -> Self {
        use v1::group_mod::Change;
        let change = match change {
            GroupMod::Add(group) => Change::Add(group.into()),
            GroupMod::Modify(group) => Change::Modify(group.into()),
            GroupMod::Delete(Some(id)) => Change::Delete(*id),
            GroupMod::Delete(None) => Change::DeleteAll(v1::Empty {}),
        };
        Self {
            change: Some(change),
        }
    }
}

/// A group's part, as an agent gets it: without the group's definition.
pub(super) fn part_to_wire(part: &GroupPart) -> v1::GroupPart {
    use v1::group_part::{Head, Part as Wire};
    let wire = match &part.what {
        GroupPiece::Head => Wire::Head(Head {}),
        GroupPiece::Bucket(index) => Wire::Bucket((*index).into()),
        GroupPiece::Choice(choice) => Wire::Choice(v1::GroupChoice {
            number: choice.number.into(),
            parts: choice.parts.into(),
            r#type: v1::GroupType::from(choice.kind).into(),
            buckets: choice.buckets.into(),
            ops: choice.ops.iter().map(op_to_wire).collect(),
        }),
    };
    v1::GroupPart {
        group_id: part.group,
        part: Some(wire),
    }
}

fn op_to_wire(op: &ChoiceOp) -> v1::ChoiceOp {
    use v1::choice_op::{Bucket, Op};
    let op = match *op {
        ChoiceOp::Also(port) => Op::AlsoPort(port.0),
        ChoiceOp::Bucket { weight, live } => Op::Bucket(Bucket {
            weight: weight.into(),
            watch_port: match live {
                Live::Port(port) => Some(port.0),
                _ => None,
            },
            dead: live == Live::Never,
        }),
    };
    v1::ChoiceOp { op: Some(op) }
}

/// A group's part from the wire.
pub(super) fn part_from_wire(wire: v1::GroupPart) -> Result<GroupPart, ConvertError> {
    use v1::group_part::Part as Wire;
    let missing = |field| ConvertError::new(field, Problem::Missing);
    let what = match wire.part.ok_or_else(|| missing("part"))? {
        Wire::Head(_) => GroupPiece::Head,
        Wire::Bucket(index) => {
            bounded("bucket", index as usize, MAX_BUCKETS - 1)?;
            GroupPiece::Bucket(narrow("bucket", index, 0xffff)?)
        }
        Wire::Choice(choice) => {
            bounded("number", choice.number as usize, MAX_CHOICES - 1)?;
            bounded("parts", choice.parts as usize, MAX_CHOICES)?;
            bounded("buckets", choice.buckets as usize, MAX_BUCKETS)?;
            bounded("ops", choice.ops.len(), CHOICE_OPS)?;
            let ops = choice.ops.into_iter().map(|op| match op.op {
                Some(op) => op_from_wire(op),
                None => Err(missing("ops")),
            });
            GroupPiece::Choice(Choice {
                number: narrow("number", choice.number, 0xff)?,
                parts: narrow("parts", choice.parts, 0xff)?,
                kind: enum_from_wire::<v1::GroupType, _>("type", choice.r#type)?,
                buckets: narrow("buckets", choice.buckets, 0xffff)?,
                ops: ops.collect::<Result<_, _>>()?,
                definition: None,
            })
        }
    };
    Ok(GroupPart {
        group: wire.group_id,
        what,
    })
}

fn op_from_wire(op: v1::choice_op::Op) -> Result<ChoiceOp, ConvertError> {
    use v1::choice_op::Op;
    Ok(match op {
        Op::AlsoPort(port) => ChoiceOp::Also(PortNo(port)),
        Op::Bucket(bucket) => ChoiceOp::Bucket {
            weight: narrow("weight", bucket.weight, 0xffff)?,
            live: match bucket.watch_port {
                _ if bucket.dead => Live::Never,
                Some(port) => Live::Port(PortNo(port)),
                None => Live::Always,
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use lime_core::flow::{Action, GroupTable, GroupType, Part};

    use super::*;

    #[test]
    fn groups_and_their_parts_round_trip() {
        let bucket = |weight, watch_port, watch_group| Bucket {
            weight,
            watch_port,
            watch_group,
            actions: vec![Action::output(PortNo(1))],
        };
        let group = |id, kind, buckets| Group { id, kind, buckets };
        let watching = bucket(1, Some(PortNo(1)), None);
        let inner = group(4, GroupType::FastFailover, vec![watching; 3]);
        let outer = group(
            5,
            GroupType::Select,
            vec![
                bucket(0, None, None),
                bucket(0xffff, Some(PortNo(7)), Some(4)),
                Bucket::new(vec![]),
            ],
        );
        let mods = [
            GroupMod::Add(inner),
            GroupMod::Add(outer.clone()),
            GroupMod::Modify(outer.clone()),
            GroupMod::Delete(Some(0)),
            GroupMod::Delete(None),
        ];
        for m in &mods {
            assert_eq!(&GroupMod::try_from(v1::GroupMod::from(m)).unwrap(), m);
        }
        let mut table = GroupTable::default();
        let mut id = 0;
        let next = || {
            id += 1;
            lime_core::RuleId(id)
        };
        table.apply(mods[..2].to_vec(), next).unwrap();
        for (_, rule) in table.parts() {
            let Some(Part::Group(mut part)) = rule.part.as_deref().cloned() else {
                panic!("{rule:?}");
            };
            let back = part_from_wire(part_to_wire(&part)).unwrap();
            if let GroupPiece::Choice(choice) = &mut part.what {
                choice.definition = None;
            }
            assert_eq!(back, part);
        }
        let mut unweighted = v1::Group::from(&outer);
        unweighted.buckets[1].weight = None;
        assert_eq!(Group::try_from(unweighted).unwrap().buckets[1].weight, 1);
    }
}
