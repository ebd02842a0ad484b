//! Plots as SVG: how every figure stands to its bar, and curves.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use plotters::prelude::*;
use serde::Serialize;

use super::Figure;
use super::figure::number;

/// Colours that colour-blind readers tell apart (Okabe and Ito).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(120, 120, 120),
    RGBColor(230, 159, 0),
    RGBColor(0, 0, 0),
];
const HOLDS: RGBColor = COLOURS[2];
const MISSES: RGBColor = COLOURS[1];
/// What is farther from its bar than this is cut off there.
const FARTHEST: f64 = 4.0;

/// What an axis shows.
#[derive(Clone, Debug, Serialize)]
pub struct Axis {
    /// With its unit.
    pub label: &'static str,
}

/// One line.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// In the legend.
    pub name: String,
    /// By rising x, all positive.
    pub points: Vec<(f64, f64)>,
}

/// Some curves over a logarithmic x axis.
#[derive(Clone, Debug, Serialize)]
pub struct Plot {
    /// Name of its file, without ending.
    pub name: String,
    /// Above it.
    pub title: String,
    /// To the right.
    pub x: Axis,
    /// Upwards, from 0.
    pub y: Axis,
    /// At least one.
    pub curves: Vec<Curve>,
}

/// Draws how the figures stand to their bars (`bars.svg`), and every plot.
pub fn draw(directory: &Path, figures: &[Figure], plots: &[Plot]) -> Result<()> {
    std::fs::create_dir_all(directory)
        .with_context(|| format!("cannot make {}", directory.display()))?;
    let write = |name: &str, svg: Result<String>| {
        let path = directory.join(format!("{name}.svg"));
        let svg = svg.with_context(|| format!("cannot draw {}", path.display()))?;
        std::fs::write(&path, svg).with_context(|| format!("cannot write {}", path.display()))
    };
    write("bars", bars(figures))?;
    plots.iter().try_for_each(|p| write(&p.name, curves(p)))
}

fn bars(figures: &[Figure]) -> Result<String> {
    let rows: Vec<(&Figure, f64)> = figures
        .iter()
        .filter_map(|f| Some((f, f.margin()?.min(FARTHEST))))
        .collect();
    // Names are written to the left of the bars.
    let x = -2.5..FARTHEST;
    let height = rows.len().max(1) as f64;
    let mut svg = String::new();
    {
        let size = (1100, 90 + 26 * rows.len() as u32);
        let area = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        let draw = || -> Result<(), DrawingError> {
            area.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&area)
                .caption(
                    "Figures against their bars (1: just holds; farther right is better)",
                    ("sans-serif", 18),
                )
                .margin(15)
                .x_label_area_size(25)
                .build_cartesian_2d(x.clone(), 0.0..height)?;
            chart
                .configure_mesh()
                .disable_mesh()
                .disable_y_axis()
                .x_labels(14)
                .x_label_formatter(&|x| match *x >= 0.0 {
                    true => number(*x),
                    false => String::new(),
                })
                .draw()?;
            for (i, (figure, margin)) in rows.iter().enumerate() {
                let top = height - i as f64 - 0.2;
                let colour = match figure.holds() {
                    Some(true) => HOLDS,
                    _ => MISSES,
                };
                let bar = Rectangle::new([(0.0, top), (*margin, top - 0.6)], colour.filled());
                chart.draw_series([bar])?;
                let text = format!(
                    "{}: {} ({})",
                    figure.name,
                    number(figure.ratio().unwrap_or(0.0)),
                    figure.bar_text().unwrap_or_default()
                );
                chart.draw_series([Text::new(text, (x.start, top), ("sans-serif", 13))])?;
            }
            let line = [(1.0, 0.0), (1.0, height)];
            chart.draw_series(LineSeries::new(line, BLACK.stroke_width(2)))?;
            area.present()
        };
        draw().map_err(|e| anyhow!("{e}"))?;
    }
    Ok(svg)
}

fn curves(plot: &Plot) -> Result<String> {
    let points = || plot.curves.iter().flat_map(|c| &c.points);
    let x = points().fold((f64::MAX, 1.0f64), |(low, high), p| {
        (low.min(p.0), high.max(p.0))
    });
    let y = points().fold(0.0f64, |high, p| high.max(p.1)) * 1.1;
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (800, 500)).into_drawing_area();
        let draw = || -> Result<(), DrawingError> {
            area.fill(&WHITE)?;
            let mut chart = ChartBuilder::on(&area)
                .caption(&plot.title, ("sans-serif", 18))
                .margin(15)
                .margin_right(30)
                .x_label_area_size(45)
                .y_label_area_size(60)
                .build_cartesian_2d((x.0..x.1).log_scale(), 0.0..y)?;
            chart
                .configure_mesh()
                .light_line_style(TRANSPARENT)
                .x_desc(plot.x.label)
                .y_desc(plot.y.label)
                .x_label_formatter(&|x| number(*x))
                .draw()?;
            for (curve, colour) in plot.curves.iter().zip(COLOURS.iter().cycle()) {
                let points = || curve.points.iter().copied();
                let style = colour.stroke_width(2);
                let line = LineSeries::new(points(), style).point_size(3);
                chart
                    .draw_series(line)?
                    .label(&curve.name)
                    .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], style));
            }
            chart
                .configure_series_labels()
                .position(SeriesLabelPosition::UpperLeft)
                .background_style(WHITE.mix(0.8))
                .border_style(BLACK.mix(0.3))
                .draw()?;
            area.present()
        };
        draw().map_err(|e| anyhow!("{e}"))?;
    }
    Ok(svg)
}

/// What drawing can fail with.
type DrawingError = DrawingAreaErrorKind<std::io::Error>;

#[cfg(test)]
mod tests {
    use super::super::Bar;
    use super::*;

    #[test]
    fn every_figure_with_a_bar_and_every_curve_is_drawn() {
        let figures = [
            Figure::new("first", 1.0, "ns")
                .beside("hash", 2.0)
                .bar(Bar::AtMost(1.0)),
            Figure::new("without", 1.0, "ns"),
        ];
        let svg = bars(&figures).unwrap();
        assert!(svg.contains("first: 0.50") && !svg.contains("without"));
        let plot = Plot {
            name: "p".into(),
            title: "Some title".into(),
            x: Axis { label: "rules" },
            y: Axis { label: "ns" },
            curves: vec![Curve {
                name: "a curve".into(),
                points: vec![(1.0, 5.0), (1000.0, 9.0)],
            }],
        };
        let svg = curves(&plot).unwrap();
        assert!(svg.contains("Some title") && svg.contains("a curve"));
    }
}
