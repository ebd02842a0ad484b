//! Generations: which of two descriptions of a network is the newer one.

use prost::Message;

use lime_proto::v1;

use crate::error::{CommandError, CommandResult};

/// What to do with a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new: apply it.
    Apply,
    /// It is what is in force.
    Same,
}

/// What counts as content: not the request's number, and not the clock, which only ever rises.
fn content(wire: &v1::Configure) -> Vec<u8> {
    v1::Configure {
        request_id: 0,
        min_clock: 0,
        ..wire.clone()
    }
    .encode_to_vec()
}

/// Compares a description with the one in force.
///
/// # Errors
/// It is older, or it has the same generation and other content.
pub fn judge(current: Option<&v1::Configure>, new: &v1::Configure) -> CommandResult<Verdict> {
    let Some(current) = current else {
        return Ok(Verdict::Apply);
    };
    let refuse = |why: &str| {
        Err(CommandError::invalid(format!(
            "network {}: generation {} {why} (generation {} is in force)",
            new.network, new.generation, current.generation
        )))
    };
    match new.generation.cmp(&current.generation) {
        std::cmp::Ordering::Less => refuse("is out of date"),
        std::cmp::Ordering::Equal if content(new) == content(current) => Ok(Verdict::Same),
        std::cmp::Ordering::Equal => refuse("was given before with other content"),
        std::cmp::Ordering::Greater => Ok(Verdict::Apply),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn configure(generation: u64, vni: u32) -> v1::Configure {
        v1::Configure {
            network: 1,
            generation,
            vni,
            ..Default::default()
        }
    }

    #[test]
    fn newer_is_applied_and_older_refused() {
        let current = configure(5, 100);
        let judge = |new: &v1::Configure| judge(Some(&current), new);
        assert_eq!(judge(&configure(6, 100)), Ok(Verdict::Apply));
        assert!(judge(&configure(4, 100)).is_err());
        assert!(judge(&configure(5, 101)).is_err());
        assert_eq!(super::judge(None, &configure(1, 1)), Ok(Verdict::Apply));
    }

    #[test]
    fn the_same_again_is_the_same() {
        let current = configure(5, 100);
        let again = v1::Configure {
            request_id: 77,
            min_clock: 9,
            ..current.clone()
        };
        assert_eq!(judge(Some(&current), &again), Ok(Verdict::Same));
    }
}
