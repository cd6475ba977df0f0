//! A figure that was measured several times.

use serde::{Deserialize, Serialize};

/// The figures of all rounds: at least one, all finite.
///
/// It is shown as the median and the range. For any distribution, the range of five rounds contains the true median
/// with a probability of 94 %, that of three with 75 %. A standard deviation of so few rounds would assume a
/// distribution.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "Told", try_from = "Told")]
pub struct Measured {
    /// In the order of the rounds.
    samples: Vec<f64>,
}

/// How it stands in JSON. Only the samples are read back.
#[derive(Serialize, Deserialize)]
struct Told {
    median: f64,
    min: f64,
    max: f64,
    samples: Vec<f64>,
}

impl Measured {
    /// The figures of all rounds, in their order; none without a round, or if one of them is not finite.
    pub fn new(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let samples: Vec<f64> = samples.into_iter().collect();
        (!samples.is_empty() && samples.iter().all(|sample| sample.is_finite())).then_some(Self { samples })
    }

    /// The figures, in the order of the rounds.
    pub fn samples(&self) -> &[f64] {
        &self.samples
    }

    /// The middle one, or the mean of the two in the middle.
    pub fn median(&self) -> f64 {
        let mut sorted = self.samples.clone();
        sorted.sort_by(f64::total_cmp);
        let upper = sorted.len() / 2;
        let lower = (sorted.len() - 1) / 2;
        f64::midpoint(sorted[lower], sorted[upper])
    }

    /// The lowest.
    pub fn min(&self) -> f64 {
        self.samples.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// The highest.
    pub fn max(&self) -> f64 {
        self.samples.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Half of what lies between lowest and highest, as a part of the median: 0.02 is ±2 %.
    pub fn spread(&self) -> f64 {
        let half = (self.max() - self.min()) / 2.0;
        // No difference, also if the median is 0.
        if half > 0.0 { half / self.median().abs() } else { 0.0 }
    }

    /// The ratio to another figure, round by round, so that a slow round cancels out. None if the number of rounds
    /// differs, or the other figure is 0 in one.
    pub fn ratio(&self, other: &Self) -> Option<Self> {
        if self.samples.len() != other.samples.len() {
            return None;
        }
        Self::new(self.samples.iter().zip(&other.samples).map(|(one, other)| one / other))
    }
}

impl From<Measured> for Told {
    fn from(measured: Measured) -> Self {
        Self {
            median: measured.median(),
            min: measured.min(),
            max: measured.max(),
            samples: measured.samples,
        }
    }
}

impl TryFrom<Told> for Measured {
    type Error = &'static str;

    fn try_from(told: Told) -> Result<Self, Self::Error> {
        Self::new(told.samples).ok_or("a figure needs a finite sample")
    }
}
