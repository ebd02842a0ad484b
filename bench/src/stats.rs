//! Statistics over rounds. Medians, because what disturbs a round (another process, an interrupt) only ever makes it slower.

/// The median; of an even number of values the mean of the two in the middle. `None` of no values, or if one is not a number.
pub fn median(values: &[f64]) -> Option<f64> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 {
        sorted[upper]
    } else {
        (sorted[upper - 1] + sorted[upper]) / 2.0
    })
}

/// The median of `a - b` round by round: a change of the machine's speed between rounds hits both. `None` unless there is one `b` to
/// every `a`.
pub fn median_difference(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let differences: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
    median(&differences)
}

/// The order in which `count` things are measured in a round: another one begins each time, so that none always follows the same.
pub fn rotation(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (i + round) % count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn median_of_odd_even_and_none() {
        assert_eq!(median(&[3.0, 1.0, 100.0]), Some(3.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 100.0]), Some(3.0));
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[1.0, f64::NAN]), None);
    }

    #[test]
    fn a_slow_round_does_not_move_paired_differences() {
        let a = [50.0, 500.0, 51.0];
        let b = [30.0, 480.0, 30.0];
        assert_eq!(median_difference(&a, &b), Some(20.0));
        assert_eq!(median_difference(&a, &b[..2]), None);
    }

    #[test]
    fn every_round_measures_everything_once() {
        for round in 0..5 {
            let mut order: Vec<_> = rotation(3, round).collect();
            assert_eq!(order[0], round % 3);
            order.sort();
            assert_eq!(order, [0, 1, 2]);
        }
    }
}
