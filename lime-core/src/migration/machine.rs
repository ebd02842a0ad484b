//! The step machine: where a migration is, and what is next. An undo is the same machine backwards.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Phase, Step};

/// Where a migration stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Going on.
    Running,
    /// Done.
    Completed,
    /// Going back.
    RollingBack,
    /// As if it had not been.
    RolledBack,
    /// It can neither go on nor back by itself.
    Failed,
}

impl State {
    /// Whether nothing more will happen.
    pub fn has_ended(self) -> bool {
        !matches!(self, State::Running | State::RollingBack)
    }
}

/// What is to be done now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Do this step.
    Do(Step),
    /// Undo this step; it may have been done in part, or not at all.
    Undo(Step),
}

/// Why a migration cannot be rolled back.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NoRollback {
    /// It is over.
    #[error("the migration has ended: start another one in the other direction")]
    Ended,
    /// Instances are gone already.
    #[error("the migration is retiring the old instances: it can only go on now")]
    TooLate,
}

/// What follows a step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AfterFailure {
    /// Back, from this step on.
    RollBack,
    /// The same action again, after a while.
    Retry,
    /// Nothing more can be done without an operator.
    GiveUp,
}

/// Attempts of an action that cannot be turned back, when its failure does not look as if waiting would help.
pub const MAX_ATTEMPTS: u32 = 10;

/// The progress of a migration: what the journal keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    steps: Vec<Step>,
    /// The step under way (forwards), or the one that is undone next (backwards, counted from 1).
    at: usize,
    state: State,
    /// It has turned back.
    back: bool,
    attempts: u32,
}

impl Progress {
    /// At the beginning.
    pub fn new(steps: Vec<Step>) -> Self {
        let state = if steps.is_empty() {
            State::Completed
        } else {
            State::Running
        };
        Self {
            steps,
            at: 0,
            state,
            back: false,
            attempts: 0,
        }
    }

    /// All steps.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Where it stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// Steps that are done (and not undone).
    pub fn done(&self) -> usize {
        self.at
    }

    /// Whether it goes back, or has gone back.
    pub fn has_turned_back(&self) -> bool {
        self.back
    }

    /// What is to be done now; none: it has ended.
    pub fn action(&self) -> Option<Action> {
        match self.state {
            State::Running => self.steps.get(self.at).cloned().map(Action::Do),
            State::RollingBack => {
                let step = self.steps.get(self.at.checked_sub(1)?)?;
                Some(Action::Undo(step.clone()))
            }
            _ => None,
        }
    }

    /// The phase of the step under way; none while it goes back, or when it has ended.
    pub fn phase(&self) -> Option<Phase> {
        match self.state {
            State::Running => self.steps.get(self.at).map(Step::phase),
            _ => None,
        }
    }

    /// Whether the first retirement has begun: what is gone cannot be brought back.
    pub fn is_past_return(&self) -> bool {
        let first = self.steps.iter().position(|s| s.phase() == Phase::Retire);
        !self.back && first.is_some_and(|first| self.at >= first)
    }

    /// The action was carried out.
    pub fn succeeded(&mut self) {
        self.attempts = 0;
        match self.state {
            State::Running => {
                self.at += 1;
                if self.at >= self.steps.len() {
                    self.state = State::Completed;
                }
            }
            State::RollingBack => {
                self.at = self.at.saturating_sub(1);
                if self.at == 0 {
                    self.state = State::RolledBack;
                }
            }
            _ => {}
        }
    }

    /// The action failed. `may_pass`: waiting may help (a host that is away).
    pub fn failed(&mut self, may_pass: bool) -> AfterFailure {
        if self.state == State::Running && !self.is_past_return() {
            self.turn_back();
            return AfterFailure::RollBack;
        }
        self.attempts += 1;
        if may_pass || self.attempts < MAX_ATTEMPTS {
            return AfterFailure::Retry;
        }
        self.state = State::Failed;
        AfterFailure::GiveUp
    }

    /// An operator wants it undone, or a failed one tried again.
    pub fn roll_back(&mut self) -> Result<(), NoRollback> {
        match self.state {
            State::Completed | State::RolledBack => Err(NoRollback::Ended),
            State::RollingBack => Ok(()),
            State::Running if self.is_past_return() => Err(NoRollback::TooLate),
            State::Running => {
                self.turn_back();
                Ok(())
            }
            State::Failed => {
                self.state = if self.back {
                    State::RollingBack
                } else {
                    State::Running
                };
                self.attempts = 0;
                Ok(())
            }
        }
    }

    /// The step under way is undone first: it may have been done in part.
    fn turn_back(&mut self) {
        self.state = State::RollingBack;
        self.back = true;
        self.attempts = 0;
        self.at = (self.at + 1).min(self.steps.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HostId, SwitchId};

    fn steps() -> Vec<Step> {
        let (switch, host) = (SwitchId(1), HostId(2));
        vec![
            Step::Join { host },
            Step::Clone { switch, host },
            Step::Retire {
                switch,
                host: HostId(1),
            },
        ]
    }

    #[test]
    fn forwards() {
        let mut p = Progress::new(steps());
        for step in steps() {
            assert_eq!(p.action(), Some(Action::Do(step)));
            p.succeeded();
        }
        assert_eq!((p.state(), p.action()), (State::Completed, None));
        assert_eq!(p.roll_back(), Err(NoRollback::Ended));
    }

    #[test]
    fn a_failed_step_and_those_before_it_are_undone() {
        let mut p = Progress::new(steps());
        p.succeeded();
        assert_eq!(p.failed(true), AfterFailure::RollBack);
        for step in steps().into_iter().take(2).rev() {
            assert_eq!(p.action(), Some(Action::Undo(step)));
            assert_eq!(p.failed(true), AfterFailure::Retry);
            p.succeeded();
        }
        assert_eq!(p.state(), State::RolledBack);
    }

    #[test]
    fn after_the_first_retirement_it_only_goes_on() {
        let mut p = Progress::new(steps());
        p.succeeded();
        p.succeeded();
        assert!(p.is_past_return());
        assert_eq!(p.roll_back(), Err(NoRollback::TooLate));
        assert_eq!(p.failed(true), AfterFailure::Retry);
        for _ in 0..MAX_ATTEMPTS - 2 {
            assert_eq!(p.failed(false), AfterFailure::Retry);
        }
        assert_eq!(p.failed(false), AfterFailure::GiveUp);
        assert_eq!(p.state(), State::Failed);
        p.roll_back().unwrap();
        assert_eq!(p.state(), State::Running);
        p.succeeded();
        assert_eq!(p.state(), State::Completed);
    }
}
