//! One measured figure.

use anyhow::{Context, Result};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::stats::{median, ratios, uncertainty};

/// What the ratio of a figure to its reference is to be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Bar {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

impl Bar {
    fn limit(self) -> f64 {
        match self {
            Bar::AtMost(limit) | Bar::AtLeast(limit) => limit,
        }
    }

    fn kind(self) -> &'static str {
        match self {
            Bar::AtMost(_) => "at-most",
            Bar::AtLeast(_) => "at-least",
        }
    }

    fn holds(self, ratio: f64) -> bool {
        match self {
            Bar::AtMost(limit) => ratio <= limit,
            Bar::AtLeast(limit) => ratio >= limit,
        }
    }
}

/// A measured value, what it is to be compared with, and how the comparison is to come out.
#[derive(Clone, Debug)]
pub struct Figure {
    /// `group/what/how`, in kebab case.
    pub name: String,
    /// Measured.
    pub value: f64,
    /// Of `value` and of the reference.
    pub unit: &'static str,
    reference: Option<(String, f64)>,
    /// Of rounds that were measured in turns: the median of their ratios, and how far it may be off, as a part of it.
    paired: Option<(f64, f64)>,
    bar: Option<Bar>,
}

impl Figure {
    /// A figure without reference and bar.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            reference: None,
            paired: None,
            bar: None,
        }
    }

    /// The medians of rounds in which it and its reference were measured in turns; the ratio is the median of the rounds' ratios.
    pub fn paired(
        name: impl Into<String>,
        values: &[f64],
        unit: &'static str,
        reference: impl Into<String>,
        references: &[f64],
    ) -> Result<Self> {
        let figure = || {
            let ratios = ratios(values, references)?;
            let mut figure = Self::new(name, median(values)?, unit);
            figure.paired = median(&ratios).zip(uncertainty(&ratios));
            Some(figure.beside(reference, median(references)?))
        };
        figure().context("there are no rounds, or not the same for it and its reference")
    }

    /// What it stands beside, measured in the same run, in the same unit.
    #[must_use]
    pub fn beside(mut self, name: impl Into<String>, value: f64) -> Self {
        self.reference = Some((name.into(), value));
        self
    }

    /// What the ratio to the reference is to be.
    #[must_use]
    pub fn bar(mut self, bar: Bar) -> Self {
        self.bar = Some(bar);
        self
    }

    /// The reference's name and value.
    pub fn reference(&self) -> Option<(&str, f64)> {
        self.reference
            .as_ref()
            .map(|(name, value)| (&**name, *value))
    }

    /// Value by reference. `None` where the reference is not positive: a ratio would say nothing.
    pub fn ratio(&self) -> Option<f64> {
        let (_, reference) = self.reference()?;
        let of_medians = || self.value / reference;
        (reference > 0.0).then(|| self.paired.map_or_else(of_medians, |(ratio, _)| ratio))
    }

    /// How far the ratio may be off (half its 95 % confidence interval), as a part of it.
    pub fn uncertainty(&self) -> Option<f64> {
        self.paired.map(|(_, off)| off)
    }

    /// Whether the bar holds; a bar without a ratio does not.
    pub fn holds(&self) -> Option<bool> {
        let bar = self.bar?;
        Some(self.ratio().is_some_and(|ratio| bar.holds(ratio)))
    }

    /// How far it is on the right side of its bar, as a factor: above 1 it holds.
    pub fn margin(&self) -> Option<f64> {
        let ratio = self.ratio()?;
        Some(match self.bar? {
            Bar::AtMost(limit) => limit / ratio.max(f64::MIN_POSITIVE),
            Bar::AtLeast(limit) => ratio / limit,
        })
    }

    /// The bar for people.
    pub fn bar_text(&self) -> Option<String> {
        self.bar.map(|bar| match bar {
            Bar::AtMost(limit) => format!("<= {limit}"),
            Bar::AtLeast(limit) => format!(">= {limit}"),
        })
    }

    /// All of it in one line.
    pub fn line(&self) -> String {
        let mut line = format!("{}: {} {}", self.name, number(self.value), self.unit);
        if let Some((name, value)) = self.reference() {
            line += &format!(", {name}: {}", number(value));
        }
        if let Some(ratio) = self.ratio() {
            line += &format!(", ratio {ratio:.2}");
        }
        if let Some(off) = self.uncertainty() {
            line += &format!(" ± {:.1} %", off * 100.0);
        }
        if let (Some(bar), Some(holds)) = (self.bar_text(), self.holds()) {
            line += &format!(
                " ({bar}: {})",
                if holds { "holds" } else { "DOES NOT HOLD" }
            );
        }
        line
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut s = serializer.serialize_struct("Figure", 10)?;
        s.serialize_field("name", &self.name)?;
        s.serialize_field("value", &self.value)?;
        s.serialize_field("unit", self.unit)?;
        s.serialize_field("reference_name", &self.reference().map(|r| r.0))?;
        s.serialize_field("reference_value", &self.reference().map(|r| r.1))?;
        s.serialize_field("ratio", &self.ratio())?;
        s.serialize_field("uncertainty", &self.uncertainty())?;
        s.serialize_field("bar", &self.bar.map(Bar::limit))?;
        s.serialize_field("bar_kind", &self.bar.map(Bar::kind))?;
        s.serialize_field("holds", &self.holds())?;
        s.end()
    }
}

/// Three or more significant digits, thousands marked.
pub fn number(value: f64) -> String {
    let digits = match value.abs() {
        v if v >= 100.0 => 0,
        v if v >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |w| ("-", w));
    let mut grouped = String::from(sign);
    for (i, digit) in whole.chars().enumerate() {
        if i > 0 && (whole.len() - i).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if !fraction.is_empty() {
        grouped.push('.');
        grouped.push_str(fraction);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_judged_by_the_ratio() {
        let figure = |value| {
            Figure::new("x", value, "Gb/s")
                .beside("bridge", 10.0)
                .bar(Bar::AtLeast(0.95))
        };
        assert_eq!(figure(9.5).holds(), Some(true));
        assert_eq!(figure(9.4).holds(), Some(false));
        assert_eq!(figure(9.4).ratio(), Some(0.9400000000000001));
        let most = Figure::new("x", 30.0, "ns")
            .beside("hash", 20.0)
            .bar(Bar::AtMost(1.5));
        assert_eq!(most.holds(), Some(true));
    }

    #[test]
    fn paired_rounds_are_compared_round_by_round() {
        let figure = Figure::paired("x", &[1.0, 20.0, 3.0], "ns", "y", &[2.0, 40.0, 6.0]).unwrap();
        assert_eq!((figure.value, figure.ratio()), (3.0, Some(0.5)));
        assert_eq!(figure.uncertainty(), Some(0.0));
        assert!(Figure::paired("x", &[1.0], "ns", "y", &[]).is_err());
    }

    #[test]
    fn a_bar_without_a_ratio_does_not_hold() {
        let figure = Figure::new("x", 1.0, "ns").bar(Bar::AtMost(9.0));
        assert_eq!(figure.holds(), Some(false));
        assert_eq!(figure.beside("zero", 0.0).holds(), Some(false));
        assert_eq!(Figure::new("x", 1.0, "ns").holds(), None);
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(number(1234567.8), "1,234,568");
        assert_eq!(number(-1234.0), "-1,234");
        assert_eq!(number(123.0), "123");
        assert_eq!(number(12.34), "12.3");
        assert_eq!(number(0.5), "0.50");
    }
}
