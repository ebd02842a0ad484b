use super::*;
use crate::flow::{Band, BandKind, METER_ALL, METER_MAX, MeterUnit};

fn band(rate: u32, burst_size: u32) -> Band {
    let kind = BandKind::Drop;
    Band {
        kind,
        rate,
        burst_size,
    }
}

fn meter(id: u32, bands: Vec<Band>) -> Meter {
    Meter {
        id,
        unit: MeterUnit::Kbps,
        burst: bands.iter().any(|b| b.burst_size != 0),
        stats: true,
        bands,
    }
}

#[derive(Default)]
struct Bed {
    table: MeterTable,
    next: u64,
}

impl Bed {
    fn apply(&mut self, mods: Vec<MeterMod>) -> Result<PartDelta, MeterModError> {
        let next = &mut self.next;
        self.table.apply(mods, || {
            *next += 1;
            RuleId(*next)
        })
    }
}

#[test]
fn a_modified_meter_goes_on_with_its_counts_and_its_bands_begin_anew() {
    let mut bed = Bed::default();
    let first = meter(1, vec![band(10, 0), band(20, 0)]);
    let delta = bed.apply(vec![MeterMod::Add(first.clone())]).unwrap();
    // Head and two bands.
    assert_eq!((delta.added.len(), delta.removed.len()), (3, 0));
    let (head, bands) = (bed.table.head(1).unwrap(), bed.table.band(1, 1));
    let second = meter(1, vec![band(10, 0), band(30, 0)]);
    let delta = bed.apply(vec![MeterMod::Modify(second.clone())]).unwrap();
    assert_eq!((delta.added.len(), delta.removed.len()), (3, 3));
    let new = bed.table.head(1).unwrap();
    assert_eq!(delta.continued, BTreeMap::from([(new, head)]));
    assert_ne!(bed.table.band(1, 1), bands);
    assert_eq!(bed.table.get(1), Some(&second));
    // The same again: the head stays as it is, also with what it has measured.
    let delta = bed.apply(vec![MeterMod::Modify(second.clone())]).unwrap();
    assert_eq!((delta.added.len(), delta.removed.len()), (2, 2));
    assert_eq!(bed.table.head(1), Some(new));
    // Deleted and added again in one request is another meter.
    let mods = vec![MeterMod::Delete(Some(1)), MeterMod::Add(second)];
    let delta = bed.apply(mods).unwrap();
    assert_eq!((delta.added.len(), delta.removed.len()), (3, 3));
    assert!(delta.continued.is_empty() && delta.deleted.contains(&1));
}

#[test]
fn changes_are_undone_by_their_parts() {
    let mut bed = Bed::default();
    let one = meter(1, vec![band(10, 5)]);
    let mods = vec![
        MeterMod::Add(one.clone()),
        MeterMod::Add(meter(2, vec![band(1, 0)])),
    ];
    bed.apply(mods).unwrap();
    let other = meter(1, vec![band(11, 5), band(12, 5)]);
    let delta = bed.apply(vec![MeterMod::Modify(other)]).unwrap();
    for (id, rule) in &delta.added {
        bed.table.remove(*id, rule);
    }
    for (id, rule) in delta.removed {
        bed.table.insert(id, rule);
    }
    assert_eq!(bed.table.get(1), Some(&one));
    assert_eq!(bed.table.parts().count(), 4);
    let delta = bed.apply(vec![MeterMod::Delete(None)]).unwrap();
    assert_eq!(delta.deleted, BTreeSet::from([1, 2]));
    assert_eq!(
        (bed.table.iter().count(), bed.table.parts().count()),
        (0, 0)
    );
    assert!(!bed.table.part(RuleId(1)));
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    use MeterModError as E;
    let mut bed = Bed::default();
    let good = meter(7, vec![band(10, 5)]);
    bed.apply(vec![MeterMod::Add(good.clone())]).unwrap();
    let add = |m: &Meter| vec![MeterMod::Add(m.clone())];
    assert_eq!(bed.apply(add(&good)), Err(E::Exists(7)));
    let unknown = vec![
        MeterMod::Delete(None),
        MeterMod::Modify(meter(8, good.bands.clone())),
    ];
    assert_eq!(bed.apply(unknown), Err(E::Unknown(8)));
    assert_eq!(bed.table.get(7), Some(&good));
    assert!(bed.apply(vec![MeterMod::Delete(Some(8))]).is_ok());
    let refused = |m: Meter| {
        let error = m.check().unwrap_err();
        let (id, expected) = (m.id, error.clone());
        let mut bed = Bed::default();
        assert_eq!(
            bed.apply(add(&m)),
            Err(E::Invalid {
                id,
                error: expected
            })
        );
        error
    };
    for id in [0, METER_ALL] {
        assert_eq!(
            refused(meter(id, vec![band(1, 0)])),
            MeterError::BadId { id }
        );
    }
    let id = METER_MAX + 1;
    assert_eq!(
        refused(meter(id, vec![band(1, 0)])),
        MeterError::Virtual { id }
    );
    assert_eq!(refused(meter(1, vec![])), MeterError::Bands { count: 0 });
    let count = MAX_BANDS + 1;
    let many = meter(1, vec![band(1, 0); count]);
    assert_eq!(refused(many), MeterError::Bands { count });
    let zero = meter(1, vec![band(1, 0), band(0, 0)]);
    assert_eq!(refused(zero), MeterError::Rate { band: 1 });
    for (rate, size) in [(1, 3601), (1, 0)] {
        let bands = vec![band(9, 9), band(rate, size)];
        let band = 1;
        assert_eq!(
            refused(meter(1, bands)),
            MeterError::Burst { band, rate, size }
        );
    }
    let mut remark = good;
    remark.bands[0].kind = BandKind::DscpRemark { prec_level: 0 };
    assert_eq!(refused(remark), MeterError::PrecLevel { band: 0 });
    let many = (1..=MAX_METERS as u32 + 1).map(|id| MeterMod::Add(meter(id, vec![band(1, 0)])));
    assert_eq!(
        Bed::default().apply(many.collect()),
        Err(E::TooMany(MAX_METERS + 1))
    );
}
