//! Changes of a switch's rules, groups and meters that are made together: one request's, or a bundle's (ONF EXT-230; OpenFlow 1.4.0, 6.9).

use std::iter::Peekable;
use std::mem::discriminant;

use thiserror::Error;

use super::RuleBook;
use crate::flow::{
    FlowMod, GroupMod, GroupModError, MeterMod, MeterModError, RuleError, SwitchMod, TableFull,
    UpdateError,
};
use crate::log::EntryKind;
use crate::{RuleId, SwitchId};

/// A group that is not there (OpenFlow 1.3.5, 7.4.4.4: OFPBAC_BAD_OUT_GROUP).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("group {0} does not exist on this switch: create it first")]
pub struct NoGroup(pub u32);

/// A meter that is not there (OpenFlow 1.3.5, 7.4.4.11: OFPMMFC_UNKNOWN_METER).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("meter {0} does not exist on this switch: add it first")]
pub struct NoMeter(pub u32);

/// Why changes are refused, and which of them is at fault; nothing has changed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ChangeError {
    /// A rule that cannot be.
    #[error("mods[{index}].rule: {error}")]
    Rule {
        /// Which change, counted from 0.
        index: usize,
        /// Why.
        error: RuleError,
    },
    /// A rule runs a group that is not there.
    #[error("mods[{index}].rule: {error}")]
    NoGroup {
        /// Which change, counted from 0.
        index: usize,
        /// The group.
        error: NoGroup,
    },
    /// A rule uses a meter that is not there.
    #[error("mods[{index}].rule: {error}")]
    NoMeter {
        /// Which change, counted from 0.
        index: usize,
        /// The meter.
        error: NoMeter,
    },
    /// A change of rules.
    #[error(transparent)]
    Rules(#[from] UpdateError),
    /// A change of groups.
    #[error("mods[{index}]: {error}")]
    Group {
        /// Which change, counted from 0.
        index: usize,
        /// Why.
        error: GroupModError,
    },
    /// A change of meters.
    #[error("mods[{index}]: {error}")]
    Meter {
        /// Which change, counted from 0.
        index: usize,
        /// Why.
        error: MeterModError,
    },
}

impl RuleBook {
    /// Decides changes, each on top of those before it, all or nothing. The result is one update, to be submitted to the sequencer or
    /// [undone](Self::undo). At most `limit` rules may be left at the end.
    pub fn change(
        &mut self,
        switch: SwitchId,
        mods: Vec<SwitchMod>,
        mut next_id: impl FnMut() -> RuleId,
        limit: usize,
    ) -> Result<EntryKind, ChangeError> {
        let mut whole = EntryKind::Update {
            switch,
            add: Vec::new(),
            remove: Vec::new(),
            passed: Vec::new(),
        };
        let mut rest = mods.into_iter().peekable();
        let mut at = 0;
        // Neighbours of one sort are one step: what it costs to decide is by the step, too.
        while let Some(next) = rest.peek() {
            let (count, step) = match next {
                SwitchMod::Rule(_) => {
                    let run = neighbours(&mut rest, |m| match m {
                        SwitchMod::Rule(m) => Some(m),
                        _ => None,
                    });
                    (run.len(), self.change_rules(switch, at, run, &mut next_id))
                }
                SwitchMod::Group(_) => {
                    let run = neighbours(&mut rest, |m| match m {
                        SwitchMod::Group(m) => Some(m),
                        _ => None,
                    });
                    (run.len(), self.change_groups(switch, at, run, &mut next_id))
                }
                SwitchMod::Meter(_) => {
                    let run = neighbours(&mut rest, |m| match m {
                        SwitchMod::Meter(m) => Some(m),
                        _ => None,
                    });
                    (run.len(), self.change_meters(switch, at, run, &mut next_id))
                }
            };
            match step {
                Ok(kind) => {
                    let apart = whole.absorb(kind);
                    debug_assert!(apart.is_none(), "all of one switch");
                }
                Err(e) => {
                    self.undo(&whole);
                    return Err(e);
                }
            }
            at += count;
        }
        let rules = self.len(switch);
        if rules > limit {
            self.undo(&whole);
            return Err(UpdateError::from(TableFull { rules, limit }).into());
        }
        Ok(whole)
    }

    /// `at`: index of the first.
    fn change_rules(
        &mut self,
        switch: SwitchId,
        at: usize,
        mods: Vec<FlowMod>,
        next_id: &mut impl FnMut() -> RuleId,
    ) -> Result<EntryKind, ChangeError> {
        for (i, m) in mods.iter().enumerate() {
            let Some(rule) = m.rule() else { continue };
            let index = at + i;
            rule.check()
                .map_err(|error| ChangeError::Rule { index, error })?;
            let actions = rule.actions.iter().chain(&rule.write_actions);
            if let Some(group) = self.missing_group(switch, actions) {
                let error = NoGroup(group);
                return Err(ChangeError::NoGroup { index, error });
            }
            let meters = self.meters(switch);
            let there = |id| meters.is_some_and(|meters| meters.get(id).is_some());
            if let Some(meter) = rule.meter.filter(|id| !there(*id)) {
                let error = NoMeter(meter);
                return Err(ChangeError::NoMeter { index, error });
            }
        }
        let mut result = self.apply(switch, mods, next_id, usize::MAX);
        if let Err(UpdateError::Overlap { index, .. }) = &mut result {
            *index += at;
        }
        Ok(result?)
    }

    /// `at`: index of the first.
    fn change_groups(
        &mut self,
        switch: SwitchId,
        at: usize,
        mods: Vec<GroupMod>,
        next_id: &mut impl FnMut() -> RuleId,
    ) -> Result<EntryKind, ChangeError> {
        let kept = mods.clone();
        self.apply_groups(switch, mods, next_id).map_err(|error| {
            let groups = self.groups(switch).cloned().unwrap_or_default();
            let takes = |mods| groups.clone().apply(mods, || RuleId(0)).is_ok();
            let index = at + first_refused(&kept, takes);
            ChangeError::Group { index, error }
        })
    }

    /// `at`: index of the first.
    fn change_meters(
        &mut self,
        switch: SwitchId,
        at: usize,
        mods: Vec<MeterMod>,
        next_id: &mut impl FnMut() -> RuleId,
    ) -> Result<EntryKind, ChangeError> {
        let kept = mods.clone();
        self.apply_meters(switch, mods, next_id).map_err(|error| {
            let meters = self.meters(switch).cloned().unwrap_or_default();
            let takes = |mods| meters.clone().apply(mods, || RuleId(0)).is_ok();
            let index = at + first_refused(&kept, takes);
            ChangeError::Meter { index, error }
        })
    }
}

/// The changes at the front that are of one sort.
fn neighbours<T>(
    rest: &mut Peekable<impl Iterator<Item = SwitchMod>>,
    of_sort: impl Fn(SwitchMod) -> Option<T>,
) -> Vec<T> {
    let mut run = Vec::new();
    let Some(sort) = rest.peek().map(discriminant) else {
        return run;
    };
    while let Some(m) = rest.next_if(|m| discriminant(m) == sort) {
        run.extend(of_sort(m));
    }
    run
}

/// Which of these changes are not taken: those before it are.
fn first_refused<M: Clone>(mods: &[M], takes: impl Fn(Vec<M>) -> bool) -> usize {
    let refused = |count: usize| !takes(mods[..count].to_vec());
    let (mut good, mut bad) = (0, mods.len());
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        *if refused(middle) { &mut bad } else { &mut good } = middle;
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{
        Action, Band, BandKind, Bucket, Group, GroupType, Meter, MeterUnit, RemovedReason, Rule,
        RuleFilter,
    };
    use crate::{Epoch, PortNo};

    const S: SwitchId = SwitchId(1);

    fn group(id: u32, actions: Vec<Action>) -> Group {
        Group {
            id,
            kind: GroupType::All,
            buckets: vec![Bucket::new(actions)],
        }
    }

    fn rule(priority: u16, action: Action) -> Rule {
        Rule {
            priority,
            actions: vec![action],
            ..Rule::default()
        }
    }

    fn add(priority: u16, action: Action) -> SwitchMod {
        SwitchMod::Rule(FlowMod::Add(rule(priority, action)))
    }

    struct Book {
        book: RuleBook,
        next: u64,
    }

    impl Book {
        fn change(&mut self, mods: Vec<SwitchMod>, limit: usize) -> Result<EntryKind, ChangeError> {
            let next = &mut self.next;
            let id = || {
                *next += 1;
                RuleId(*next)
            };
            self.book.change(S, mods, id, limit)
        }

        /// What there is, apart from ids.
        fn shown(&self) -> (Vec<Rule>, Vec<Group>) {
            let table = self.book.table(S).into_iter().flat_map(|t| t.iter());
            let groups = self.book.groups(S).into_iter().flat_map(|g| g.iter());
            (
                table.map(|(_, r)| r.as_ref().clone()).collect(),
                groups.cloned().collect(),
            )
        }
    }

    fn book() -> Book {
        let mut book = Book {
            book: RuleBook::default(),
            next: 0,
        };
        let out = Action::output(PortNo(1));
        let mods = vec![
            SwitchMod::Group(GroupMod::Add(group(1, vec![out.clone()]))),
            add(1, Action::Group(1)),
            add(2, out),
        ];
        assert!(book.change(mods, 10).is_ok());
        book
    }

    #[test]
    fn each_change_is_made_on_top_of_those_before_it_in_one_entry() {
        let mut b = book();
        let out = Action::output(PortNo(2));
        let mods = vec![
            add(7, Action::Group(1)),
            SwitchMod::Group(GroupMod::Delete(Some(1))),
            SwitchMod::Group(GroupMod::Add(group(2, vec![out.clone()]))),
            add(8, Action::Group(2)),
            add(2, Action::Group(2)),
            SwitchMod::Group(GroupMod::Modify(group(2, vec![]))),
        ];
        let kind = b.change(mods, 10).unwrap();
        let (rules, groups) = b.shown();
        assert_eq!(
            rules,
            [rule(8, Action::Group(2)), rule(2, Action::Group(2))]
        );
        assert_eq!(groups, [group(2, vec![])]);
        let EntryKind::Update {
            add,
            remove,
            passed,
            ..
        } = kind
        else {
            panic!();
        };
        // Two rules; the new group's head, choice and bucket.
        assert_eq!(add.len(), 5);
        // Rules 1 and 2, and the old group's three parts.
        assert_eq!(remove.len(), 5);
        // Rule 7, and the choice and bucket that group 2 had for a while.
        assert_eq!(passed.len(), 3);
    }

    #[test]
    fn what_goes_on_within_a_bundle_goes_on_from_what_was_before_it() {
        let mut b = book();
        let mods = vec![
            add(2, Action::output(PortNo(5))),
            SwitchMod::Group(GroupMod::Delete(None)),
            add(2, Action::output(PortNo(6))),
        ];
        let kind = b.change(mods, 10).unwrap();
        let EntryKind::Update { add, .. } = kind else {
            panic!();
        };
        let before = add[0].counts;
        assert_eq!(before.map(|c| c.0 < add[0].id.0 - 1), Some(true));
        // A rule that an earlier change of the bundle made, and a later one modified, begins with the bundle.
        let modify = crate::flow::Modify {
            rule: rule(9, Action::output(PortNo(3))),
            cookie_mask: 0,
            strict: true,
            reset_counts: false,
        };
        let mods = vec![
            SwitchMod::Rule(FlowMod::Add(rule(9, Action::output(PortNo(1))))),
            SwitchMod::Group(GroupMod::Delete(None)),
            SwitchMod::Rule(FlowMod::Modify(modify)),
        ];
        let EntryKind::Update { add, .. } = b.change(mods, 10).unwrap() else {
            panic!();
        };
        assert_eq!((add.len(), add[0].continues), (1, None));
    }

    #[test]
    fn all_or_nothing_and_the_error_says_which() {
        let out = Action::output(PortNo(2));
        let good = || {
            vec![
                add(7, out.clone()),
                SwitchMod::Rule(FlowMod::Delete(RuleFilter::all())),
                SwitchMod::Group(GroupMod::Add(group(2, vec![out.clone()]))),
                add(2, Action::Group(2)),
            ]
        };
        let bad = [
            add(5, Action::Group(9)),
            add(5, Action::SetNwTtl(1)),
            SwitchMod::Group(GroupMod::Add(group(2, vec![]))),
            SwitchMod::Group(GroupMod::Modify(group(3, vec![]))),
        ];
        for bad in bad {
            let mut b = book();
            let before = b.shown();
            let mut mods = good();
            mods.push(SwitchMod::Group(GroupMod::Add(group(4, vec![]))));
            mods.push(bad);
            mods.extend(good());
            let error = b.change(mods, 10).unwrap_err();
            assert!(error.to_string().starts_with("mods[5]"), "{error}");
            assert_eq!(b.shown(), before);
            b.book.settled(Epoch(1), true);
            assert!(b.change(good(), 10).is_ok());
        }
        let mut b = book();
        let before = b.shown();
        let error = b.change(good(), 0).unwrap_err();
        assert!(matches!(error, ChangeError::Rules(UpdateError::Full(_))));
        assert_eq!(b.shown(), before);
    }

    fn meter(id: u32, rate: u32) -> Meter {
        Meter {
            id,
            unit: MeterUnit::Pktps,
            burst: false,
            stats: true,
            bands: vec![Band {
                kind: BandKind::Drop,
                rate,
                burst_size: 0,
            }],
        }
    }

    fn metered(priority: u16, meter: u32) -> SwitchMod {
        SwitchMod::Rule(FlowMod::Add(Rule {
            meter: Some(meter),
            ..rule(priority, Action::output(PortNo(1)))
        }))
    }

    #[test]
    fn a_modified_meter_goes_on_with_its_counts_and_a_deleted_one_takes_its_rules_along() {
        let mut b = book();
        let mods = vec![
            SwitchMod::Meter(MeterMod::Add(meter(7, 5))),
            metered(5, 7),
            metered(6, 7),
        ];
        b.change(mods, 10).unwrap();
        let head = |b: &Book| b.book.meters(S).and_then(|m| m.head(7)).unwrap();
        let first = head(&b);
        // Twice in one request: from the first to the last.
        let mods = vec![
            SwitchMod::Meter(MeterMod::Modify(meter(7, 6))),
            SwitchMod::Rule(FlowMod::Delete(RuleFilter {
                table: 9,
                ..RuleFilter::all()
            })),
            SwitchMod::Meter(MeterMod::Modify(meter(7, 8))),
        ];
        let EntryKind::Update { add, remove, .. } = b.change(mods, 10).unwrap() else {
            panic!();
        };
        let last = head(&b);
        let added = add.iter().find(|a| a.id == last).unwrap();
        assert_eq!((added.counts, added.continues), (Some(first), Some(first)));
        let gone = remove.iter().find(|r| r.id == first).unwrap();
        assert!(gone.goes_on && gone.is_reported() && !gone.is_told());
        assert_eq!(b.book.counted_as(S, last), Some(first));
        // Back to the first.
        let undone = EntryKind::Update {
            switch: S,
            add,
            remove,
            passed: vec![],
        };
        b.book.undo(&undone);
        assert_eq!(
            (head(&b), b.book.counted_as(S, first)),
            (first, Some(first))
        );
        let there = b.book.meters(S).and_then(|m| m.get(7));
        assert_eq!(there, Some(&meter(7, 5)));

        let delete = vec![SwitchMod::Meter(MeterMod::Delete(None))];
        let EntryKind::Update { remove, .. } = b.change(delete, 10).unwrap() else {
            panic!();
        };
        let rules = remove.iter().filter(|r| r.rule.part.is_none());
        let whys: Vec<_> = rules.map(|r| (r.rule.meter, r.why)).collect();
        assert_eq!(whys, [(Some(7), Some(RemovedReason::Delete)); 2]);
        // Head, band and two rules.
        assert_eq!(remove.len(), 4);
        assert_eq!(b.shown(), book().shown());
    }

    #[test]
    fn meters_that_cannot_be_are_refused_with_their_places() {
        let add = |id| SwitchMod::Meter(MeterMod::Add(meter(id, 5)));
        for (mods, index) in [
            (vec![metered(5, 7)], 0),
            (vec![add(7), metered(5, 7), metered(5, 8)], 2),
            (vec![add(7), add(8), add(7)], 2),
            (
                vec![add(7), SwitchMod::Meter(MeterMod::Modify(meter(8, 5)))],
                1,
            ),
            (vec![add(7), add(0)], 1),
            // Gone again.
            (
                vec![
                    add(7),
                    SwitchMod::Meter(MeterMod::Delete(Some(7))),
                    metered(5, 7),
                ],
                2,
            ),
        ] {
            let mut b = book();
            let error = b.change(mods, 10).unwrap_err().to_string();
            assert!(error.starts_with(&format!("mods[{index}]")), "{error}");
            assert_eq!(b.shown(), book().shown());
            assert_eq!(b.book.meters(S).map(|m| m.iter().count()), Some(0));
        }
    }
}
