//! Several things measured in turns, round after round, until their ratios are known well enough.

use anyhow::{Error, Result};

use crate::options::Options;
use crate::stats::{ratios, rotation, uncertainty};

/// How many rounds.
#[derive(Clone, Copy, Debug)]
pub struct Rounds {
    /// At least.
    pub least: usize,
    /// At most.
    pub most: usize,
    /// It is enough when every ratio to the reference is known to within this part of it (see [`uncertainty`]).
    pub certain: f64,
}

impl Rounds {
    /// So many, and in a quick run two.
    pub fn new(options: &Options, least: usize, most: usize) -> Self {
        Self {
            least: options.pick(least, 2),
            most: options.pick(most, 2),
            certain: 0.01,
        }
    }
}

/// One of the things that take turns, with the `N` values that each of its turns has given.
pub struct Turn<T, const N: usize> {
    /// What the figures call it.
    pub name: &'static str,
    /// What is measured.
    pub what: T,
    values: [Vec<f64>; N],
    /// Why there are no (or no more) measurements.
    error: Option<Error>,
}

impl<T, const N: usize> Turn<T, N> {
    /// Not measured yet.
    pub fn new(name: &'static str, what: T) -> Self {
        Self {
            name,
            what,
            values: std::array::from_fn(|_| Vec::new()),
            error: None,
        }
    }

    /// The values number `which` of all rounds, or why there are none.
    pub fn values(&self, which: usize) -> Result<&[f64]> {
        match &self.error {
            Some(e) => Err(anyhow::anyhow!("{e:#}")),
            None => Ok(&self.values[which]),
        }
    }
}

/// Measures all in turns. `reference` is the name of the one that the others are compared with.
pub fn take_turns<T, const N: usize>(
    turns: &mut [Turn<T, N>],
    reference: &str,
    rounds: Rounds,
    mut measure: impl FnMut(&T) -> Result<[f64; N]>,
) {
    for round in 0..rounds.most {
        for which in rotation(turns.len(), round) {
            let turn = &mut turns[which];
            if turn.error.is_some() {
                continue;
            }
            match measure(&turn.what) {
                Ok(values) => {
                    for (all, value) in turn.values.iter_mut().zip(values) {
                        all.push(value);
                    }
                }
                Err(e) => turn.error = Some(e),
            }
        }
        if round + 1 >= rounds.least && certain(turns, reference, rounds.certain) {
            return;
        }
    }
}

fn certain<T, const N: usize>(turns: &[Turn<T, N>], reference: &str, within: f64) -> bool {
    let Some(reference) = turns.iter().find(|t| t.name == reference) else {
        return true;
    };
    turns
        .iter()
        .filter(|t| t.error.is_none())
        .flat_map(|t| t.values.iter().zip(&reference.values))
        .filter_map(|(values, reference)| uncertainty(&ratios(values, reference)?))
        .all(|off| off <= within)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: Rounds = Rounds {
        least: 3,
        most: 50,
        certain: 0.01,
    };

    fn run(measure: impl FnMut(&u32) -> Result<[f64; 1]>) -> Vec<Turn<u32, 1>> {
        let mut turns = vec![Turn::new("a", 0), Turn::new("b", 1)];
        take_turns(&mut turns, "b", ROUNDS, measure);
        turns
    }

    #[test]
    fn steady_ratios_end_early_and_wild_ones_do_not() {
        let steady = run(|which| Ok([f64::from(which + 1)]));
        assert_eq!(steady[0].values(0).unwrap().len(), 3);
        let mut n = 0u32;
        let wild = run(|which| {
            n += 7;
            Ok([f64::from(1 + which * 10 + n % 5)])
        });
        assert_eq!(wild[0].values(0).unwrap().len(), 50);
    }

    #[test]
    fn what_fails_is_left_out_and_the_others_go_on() {
        let turns = run(|which| {
            anyhow::ensure!(*which == 1, "it broke");
            Ok([1.0])
        });
        assert!(
            turns[0]
                .values(0)
                .unwrap_err()
                .to_string()
                .contains("broke")
        );
        assert_eq!(turns[1].values(0).unwrap().len(), 3);
    }
}
