//! Statistics over rounds. Medians, because what disturbs a round (another process, an interrupt) only ever makes it slower.

/// The median; of an even number of values the mean of the two in the middle. `None` of no values, or if one is not a number.
pub fn median(values: &[f64]) -> Option<f64> {
    let sorted = sorted(values)?;
    let upper = sorted.len() / 2;
    Some(if sorted.len() % 2 == 1 {
        sorted[upper]
    } else {
        (sorted[upper - 1] + sorted[upper]) / 2.0
    })
}

/// The value that `share` (0 to 1) of all are at or below.
pub fn percentile(values: &[f64], share: f64) -> Option<f64> {
    let sorted = sorted(values)?;
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    Some(sorted[rank.clamp(1, sorted.len()) - 1])
}

/// How far the median may be off, as a part of it: half the width of its 95 % confidence interval, by order statistics.
pub fn uncertainty(values: &[f64]) -> Option<f64> {
    let middle = median(values)?;
    let sorted = sorted(values)?;
    let n = sorted.len() as f64;
    // Ranks of the interval's ends, by the normal approximation of the binomial distribution.
    let reach = 0.98 * n.sqrt();
    let low = ((n / 2.0 - reach).floor().max(0.0)) as usize;
    let high = ((n / 2.0 + reach).ceil() as usize).min(sorted.len() - 1);
    (middle != 0.0).then(|| (sorted[high] - sorted[low]) / 2.0 / middle.abs())
}

/// `a / b` round by round: a change of the machine's speed between rounds hits both. `None` unless there is one `b` to every `a`.
pub fn ratios(a: &[f64], b: &[f64]) -> Option<Vec<f64>> {
    (a.len() == b.len()).then(|| a.iter().zip(b).map(|(a, b)| a / b).collect())
}

/// `a - b` round by round. `None` unless there is one `b` to every `a`.
pub fn differences(a: &[f64], b: &[f64]) -> Option<Vec<f64>> {
    (a.len() == b.len()).then(|| a.iter().zip(b).map(|(a, b)| a - b).collect())
}

/// The order in which `count` things are measured in a round: another one begins each time, so that none always follows the same.
pub fn rotation(count: usize, round: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |i| (i + round) % count)
}

fn sorted(values: &[f64]) -> Option<Vec<f64>> {
    if values.is_empty() || values.iter().any(|v| !v.is_finite()) {
        return None;
    }
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    Some(sorted)
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
    fn percentiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(percentile(&values, 0.99), Some(198.0));
        assert_eq!(percentile(&[7.0], 0.99), Some(7.0));
        assert_eq!(percentile(&[], 0.5), None);
    }

    #[test]
    fn a_slow_round_does_not_move_paired_figures() {
        let a = [50.0, 500.0, 51.0];
        let b = [25.0, 250.0, 25.0];
        assert_eq!(median(&ratios(&a, &b).unwrap()), Some(2.0));
        assert_eq!(median(&differences(&a, &b).unwrap()), Some(26.0));
        assert_eq!(ratios(&a, &b[..2]), None);
    }

    #[test]
    fn uncertainty_falls_with_rounds_and_is_none_of_equal_ones() {
        let noisy = |n: usize| -> Vec<f64> { (0..n).map(|i| 90.0 + (i % 21) as f64).collect() };
        let (few, many) = (
            uncertainty(&noisy(21)).unwrap(),
            uncertainty(&noisy(2100)).unwrap(),
        );
        assert!(many < few / 3.0, "{few} {many}");
        assert_eq!(uncertainty(&[5.0; 9]), Some(0.0));
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
