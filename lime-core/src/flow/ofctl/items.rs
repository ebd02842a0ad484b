//! A flow's text as a list of items: `key`, `key=value`, `action:value`, `action(arguments)`.

use super::error::{Problem, SyntaxError};
use super::value;

/// Longest flow, bytes. No valid rule comes near it.
const MAX_TEXT: usize = 16 << 10;

/// One item of a flow.
#[derive(Clone, Copy, Debug)]
pub(super) struct Item<'a> {
    /// Key or action, as written.
    pub name: &'a str,
    /// What follows it.
    pub value: Option<&'a str>,
    /// Byte offset of the name in the text.
    pub at: usize,
    text: &'a str,
}

impl<'a> Item<'a> {
    /// What its value means by itself, at the same place.
    pub fn meaning(&self, name: &'a str, value: Option<&'a str>) -> Self {
        Self {
            name,
            value,
            ..*self
        }
    }

    /// An error here.
    pub fn error(&self, problem: Problem) -> SyntaxError {
        error_at(self.text, self.at, problem)
    }

    /// The value, which must be there.
    pub fn value(&self, expected: &str) -> Result<&'a str, SyntaxError> {
        self.value.filter(|v| !v.is_empty()).ok_or_else(|| {
            self.error(Problem::MissingValue {
                name: self.name.to_owned(),
                expected: expected.to_owned(),
            })
        })
    }

    /// The value as a number from 0 to `max`.
    pub fn number<T: TryFrom<u128>>(&self, max: impl Into<u128>) -> Result<T, SyntaxError> {
        let max = max.into();
        let expected = format!("a number from 0 to {max}");
        let text = self.value(&expected)?;
        value::bounded(text, max).ok_or_else(|| self.bad_value(expected))
    }

    /// Checks that there is no value.
    pub fn alone(&self) -> Result<(), SyntaxError> {
        match self.value {
            None => Ok(()),
            Some(_) => Err(self.error(Problem::UnexpectedValue {
                name: self.name.to_owned(),
            })),
        }
    }

    /// An error about the value.
    pub fn bad_value(&self, expected: impl Into<String>) -> SyntaxError {
        self.error(Problem::BadValue {
            name: self.name.to_owned(),
            text: self.value.unwrap_or_default().to_owned(),
            expected: expected.into(),
        })
    }

    /// An error about something that LIME does not have.
    pub fn unsupported(&self, instead: impl Into<String>) -> SyntaxError {
        self.error(Problem::Unsupported {
            name: self.name.to_owned(),
            instead: instead.into(),
        })
    }
}

/// An error at a byte offset of the text.
pub(super) fn error_at(text: &str, at: usize, problem: Problem) -> SyntaxError {
    let column = text
        .char_indices()
        .take_while(|&(i, _)| i < at)
        .count()
        .saturating_add(1);
    SyntaxError { column, problem }
}

/// Refuses texts that are too long to be flows, so that work is bounded.
pub(super) fn check_length(text: &str) -> Result<(), SyntaxError> {
    if text.len() > MAX_TEXT {
        let (len, max) = (text.len(), MAX_TEXT);
        return Err(error_at(text, 0, Problem::TooLong { len, max }));
    }
    Ok(())
}

/// Splits `text[from..]` at commas and white space outside of brackets; `separators` are what may stand between name and value.
pub(super) fn items<'a>(
    text: &'a str,
    from: usize,
    separators: &[char],
) -> Result<Vec<Item<'a>>, SyntaxError> {
    let mut items = Vec::new();
    let mut start = from;
    let mut depth = 0usize;
    let mut opened = from;
    let rest = text.get(from..).unwrap_or_default();
    // A last separator behind the text ends the last item.
    for (i, c) in rest.char_indices().chain([(rest.len(), ',')]) {
        let at = from + i;
        match c {
            '(' => {
                if depth == 0 {
                    opened = at;
                }
                depth += 1;
            }
            ')' if depth == 0 => return Err(error_at(text, at, Problem::Brackets)),
            ')' => depth -= 1,
            _ if depth == 0 && (c == ',' || c.is_whitespace()) => {
                if let Some(word) = text.get(start..at).filter(|w| !w.is_empty()) {
                    items.push(item(text, word, start, separators));
                }
                start = at + c.len_utf8();
            }
            _ => {}
        }
    }
    if depth > 0 {
        return Err(error_at(text, opened, Problem::Brackets));
    }
    Ok(items)
}

fn item<'a>(text: &'a str, word: &'a str, at: usize, separators: &[char]) -> Item<'a> {
    let split = word
        .char_indices()
        .find(|(_, c)| separators.contains(c) || *c == '(');
    let (name, value) = match split {
        None => (word, None),
        Some((i, '(')) => (&word[..i], Some(&word[i..])),
        Some((i, _)) => (&word[..i], Some(&word[i + 1..])),
    };
    Item {
        name,
        value,
        at,
        text,
    }
}
