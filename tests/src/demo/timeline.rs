//! Throughput per flow over time as an SVG picture: one strip per flow, the migration's phases behind them.

use std::fmt::Write as _;
use std::time::Duration;

use lime_proto::v1::Migration;

use crate::traffic::Series;

/// Slots (10 ms each) that one point of a curve adds up.
const SLOTS_PER_POINT: usize = 5;
const POINT_MS: f64 = 10.0 * SLOTS_PER_POINT as f64;
const WIDTH: f64 = 1100.0;
const LEFT: f64 = 110.0;
const RIGHT: f64 = 70.0;
const TOP: f64 = 56.0;
const STRIP: f64 = 30.0;
const GAP: f64 = 6.0;
const COLOURS: [&str; 4] = ["#1b6ca8", "#2e8b57", "#b5562b", "#7a4fa3"];
const PHASES: [&str; 4] = ["#fde9c9", "#fbd0c4", "#d9e8fb", "#e4dcf4"];

/// Draws the flows. The migration started at `started`, on the clock of the series.
pub fn draw(flows: &[(String, Series)], started: Duration, migration: &Migration) -> String {
    let points = flows.iter().map(|(_, s)| s.slots().len()).max();
    let points = points.unwrap_or(0) / SLOTS_PER_POINT;
    let total_ms = (points.max(1) as f64) * POINT_MS;
    let plot = WIDTH - LEFT - RIGHT;
    let x = |ms: f64| LEFT + plot * (ms / total_ms).clamp(0.0, 1.0);
    let height = TOP + (STRIP + GAP) * flows.len() as f64 + 40.0;
    let bottom = height - 36.0;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{LEFT}\" y=\"18\" font-size=\"14\">Throughput per flow during a migration (right: highest, per second)</text>\n"
    );
    draw_phases(&mut svg, started, migration, &x, bottom);
    for (i, (name, series)) in flows.iter().enumerate() {
        let y = TOP + (STRIP + GAP) * i as f64;
        draw_strip(
            &mut svg,
            name,
            series,
            points,
            y,
            COLOURS[i % COLOURS.len()],
            &x,
        );
    }
    draw_axis(&mut svg, total_ms, &x, bottom);
    svg.push_str("</svg>\n");
    svg
}

fn draw_phases(
    svg: &mut String,
    started: Duration,
    migration: &Migration,
    x: &impl Fn(f64) -> f64,
    bottom: f64,
) {
    for (phase, colour) in migration.phases.iter().zip(PHASES.iter().cycle()) {
        let from = started.as_secs_f64() * 1e3 + phase.started_ms as f64;
        let (left, right) = (x(from), x(from + phase.duration_ms as f64));
        // A phase of a few milliseconds must still be seen.
        let width = (right - left).max(1.5);
        let name = escape(&phase.name);
        let ms = phase.duration_ms;
        let label = 30 + 10 * (phase.name.len() % 2);
        let _ = writeln!(
            svg,
            "<rect x=\"{left:.1}\" y=\"{label}\" width=\"{width:.1}\" height=\"{:.1}\" fill=\"{colour}\"><title>{name}: {ms} ms</title></rect>\n\
             <text x=\"{left:.1}\" y=\"{:.1}\" font-size=\"9\">{name} {ms} ms</text>",
            bottom - label as f64,
            label + 8,
        );
    }
}

fn draw_strip(
    svg: &mut String,
    name: &str,
    series: &Series,
    points: usize,
    y: f64,
    colour: &str,
    x: &impl Fn(f64) -> f64,
) {
    let values: Vec<u32> = (0..points)
        .map(|p| {
            let slots = series.slots().iter().skip(p * SLOTS_PER_POINT);
            slots.take(SLOTS_PER_POINT).sum()
        })
        .collect();
    let highest = values.iter().copied().max().unwrap_or(0).max(1);
    let base = y + STRIP;
    let mut path = format!("M{:.1} {base:.1}", x(0.0));
    for (p, v) in values.iter().enumerate() {
        let top = base - STRIP * f64::from(*v) / f64::from(highest);
        let _ = write!(path, "L{:.1} {top:.1}", x((p as f64 + 0.5) * POINT_MS));
    }
    let _ = write!(path, "L{:.1} {base:.1}Z", x(points as f64 * POINT_MS));
    let per_second = f64::from(highest) * 1000.0 / POINT_MS;
    let _ = writeln!(
        svg,
        "<path d=\"{path}\" fill=\"{colour}\" fill-opacity=\"0.35\" stroke=\"{colour}\" stroke-width=\"0.8\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n\
         <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#666\">{per_second:.0}</text>",
        LEFT - 6.0,
        base - 8.0,
        escape(name),
        WIDTH - RIGHT + 6.0,
        base - 8.0,
    );
}

fn draw_axis(svg: &mut String, total_ms: f64, x: &impl Fn(f64) -> f64, bottom: f64) {
    let mut second = 0.0;
    while second * 1000.0 <= total_ms {
        let at = x(second * 1000.0);
        let _ = writeln!(
            svg,
            "<line x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{bottom:.1}\" stroke=\"#ccc\" stroke-width=\"0.5\"/>\n\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>",
            bottom + 14.0,
        );
        second += 1.0;
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lime_proto::v1::Phase;

    #[test]
    fn every_flow_and_phase_is_drawn() {
        let mut series = Series::default();
        for ms in 0..1000 {
            series.add(Duration::from_millis(ms), 2);
        }
        let migration = Migration {
            phases: vec![Phase {
                name: "prepare".into(),
                started_ms: 10,
                duration_ms: 100,
                done: true,
            }],
            ..Migration::default()
        };
        let svg = draw(
            &[("udp h1>h2".into(), series)],
            Duration::from_millis(300),
            &migration,
        );
        assert!(svg.contains("udp h1&gt;h2") && svg.contains("prepare 100 ms"));
        assert!(svg.contains(">2000<"), "the highest rate, per second");
        assert!(svg.ends_with("</svg>\n"));
    }

    #[test]
    fn no_traffic_makes_a_picture_too() {
        assert!(draw(&[], Duration::ZERO, &Migration::default()).contains("</svg>"));
    }
}
