//! From figures to pixels.

/// How an axis divides its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Linear, from 0.
    Linear,
    /// Logarithmic, for figures that differ by powers of ten. It starts below the smallest one.
    Log,
}

/// An axis: maps figures to pixels.
#[derive(Clone, Copy, Debug)]
pub(super) struct Axis {
    scale: Scale,
    low: f64,
    high: f64,
    step: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// An axis that contains the smallest and the largest figure.
    pub(super) fn new(
        scale: Scale,
        least: impl Iterator<Item = f64>,
        greatest: impl Iterator<Item = f64>,
        (from, to): (f64, f64),
    ) -> Self {
        let high = greatest.fold(0.0, f64::max);
        let high = if high > 0.0 { high } else { 1.0 };
        match scale {
            Scale::Linear => {
                let step = at_least(high / 6.0);
                Self { scale, low: 0.0, high: (high / step - 1e-9).ceil() * step, step, from, to }
            }
            Scale::Log => {
                let low = least.filter(|figure| *figure > 0.0).fold(high, f64::min);
                let low = 10_f64.powf((low * 0.9).log10().floor());
                Self { scale, low, high: at_least(high), step: 0.0, from, to }
            }
        }
    }

    /// The position of a figure.
    pub(super) fn at(&self, figure: f64) -> f64 {
        let part = match self.scale {
            Scale::Linear => figure / self.high,
            Scale::Log => (figure.max(self.low) / self.low).log10() / (self.high / self.low).log10(),
        };
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    /// The ticks of the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let next = |tick: &f64| Some(tick + self.step);
                std::iter::successors(Some(0.0), next)
                    .take_while(|tick| *tick < self.high + self.step / 2.0)
                    .collect()
            }
            Scale::Log => {
                let decades = std::iter::successors(Some(self.low), |tick| Some(tick * 10.0));
                let decades: Vec<f64> = decades.take_while(|tick| *tick <= self.high * 1.001).collect();
                let between: &[f64] = match decades.len() {
                    0..=2 => &[1.0, 2.0, 5.0],
                    3 => &[1.0, 3.0],
                    _ => &[1.0],
                };
                let ticks = decades.iter().flat_map(|decade| between.iter().map(move |part| decade * part));
                ticks.filter(|tick| *tick <= self.high * 1.001).collect()
            }
        }
    }
}

/// The smallest of 1, 2, 5, 10, 20 … that is not below this number.
fn at_least(figure: f64) -> f64 {
    let decade = 10_f64.powf(figure.log10().floor());
    let part = [1.0, 2.0, 5.0].into_iter().find(|part| part * decade >= figure * (1.0 - 1e-9));
    decade * part.unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn axis(scale: Scale, figures: &[f64]) -> Axis {
        Axis::new(scale, figures.iter().copied(), figures.iter().copied(), (0.0, 100.0))
    }

    #[test]
    fn ticks_are_round_and_enclose_every_figure() {
        for figures in
            [&[690.0, 2020.0][..], &[0.003, 0.0171], &[5.4, 1630.0], &[1.0, 1.0], &[29_400.0, 31_000.0]]
        {
            for scale in [Scale::Linear, Scale::Log] {
                let axis = axis(scale, figures);
                let ticks = axis.ticks();
                assert!((2..=8).contains(&ticks.len()), "{figures:?} {scale:?}: {ticks:?}");
                for &figure in figures {
                    assert!(
                        axis.low <= figure && figure <= axis.high * 1.001,
                        "{figures:?} {scale:?}: {axis:?}"
                    );
                }
                assert!(axis.at(figures[0]) <= axis.at(figures[1]));
            }
        }
        assert_eq!(axis(Scale::Linear, &[2020.0]).ticks(), [0.0, 500.0, 1000.0, 1500.0, 2000.0, 2500.0]);
        assert_eq!(axis(Scale::Log, &[5.4, 1630.0]).ticks(), [1.0, 10.0, 100.0, 1000.0]);
    }

    #[test]
    fn an_axis_without_figures_or_with_zero_works() {
        for scale in [Scale::Linear, Scale::Log] {
            assert!(axis(scale, &[]).at(0.0).abs() < 1e-9);
            assert!(axis(scale, &[0.0]).at(0.0).abs() < 1e-9);
        }
    }
}
