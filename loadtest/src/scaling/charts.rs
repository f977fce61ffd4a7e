//! The charts, as SVG with a background of their own, so that they can be read on light and on dark pages.

use plotters::coord::combinators::{BindKeyPoints, LogCoord, WithKeyPoints};
use plotters::prelude::*;
use plotters::style::FontDesc;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::figures::{Unit, text};
use crate::million::Measurement;

const INK: RGBColor = RGBColor(0x1F, 0x29, 0x37);
const MUTED: RGBColor = RGBColor(0x59, 0x63, 0x73);
const GRID: RGBColor = RGBColor(0xE3, 0xE6, 0xEB);
/// Of the first and of the second series.
const COLORS: [RGBColor; 2] = [RGBColor(0x1D, 0x5F, 0xD1), RGBColor(0xC2, 0x57, 0x0C)];

const WIDTH: u32 = 520;
const HEIGHT: u32 = 330;
const TEXT_PX: f64 = 13.0;
/// The part of the horizontal axis that a label needs for itself.
const LABEL_SHARE: f64 = 0.1;

pub struct Chart {
    /// Its file is called this, and `.svg`.
    pub name: &'static str,
    pub title: &'static str,
    pub svg: String,
}

/// What a chart shows: one or two series over the same sizes.
struct Plan {
    name: &'static str,
    title: &'static str,
    /// What the vertical axis counts, with its unit.
    unit: &'static str,
    series: &'static [Series],
}

/// Its name in the legend, the figure that it shows, and how many of that figure's unit make one of the chart's.
struct Series(&'static str, &'static str, f64);

static PLANS: [Plan; 5] = [
    Plan {
        name: "memory",
        title: "Memory per connection",
        unit: "bytes",
        series: &[
            Series("kernel, one end", "kernel_bytes_per_connection", 1.0),
            Series("relay (user)", "user_bytes_per_player", 1.0),
        ],
    },
    Plan {
        name: "ramp",
        title: "Connections upgraded and joined per second",
        unit: "connections",
        series: &[Series("ramp", "ramp_per_s", 1.0)],
    },
    Plan {
        name: "idle-cpu",
        title: "CPU of the relay while nobody plays",
        unit: "cores",
        series: &[Series("idle", "idle_cpu_cores", 1.0)],
    },
    Plan {
        name: "frame-cpu",
        title: "CPU of the relay per delivered frame",
        unit: "µs",
        series: &[Series("frame", "cpu_us_per_frame", 1.0)],
    },
    Plan {
        name: "frame-age",
        title: "Age of moves when an active player sees them",
        unit: "ms",
        series: &[Series("p50", "p50_us", 1e3), Series("p99", "p99_us", 1e3)],
    },
];

/// Every chart of which at least one value is known, in reading order. `measurements`: at least one, rising, from 1 connection.
pub fn draw(measurements: &[Measurement]) -> anyhow::Result<Vec<Chart>> {
    let known = |plan: &&Plan| plan.series.iter().any(|series| !series.points(measurements).is_empty());
    PLANS.iter().filter(known).map(|plan| draw_one(plan, measurements)).collect()
}

impl Series {
    fn points(&self, measurements: &[Measurement]) -> Vec<(f64, f64)> {
        let &Self(_, figure, divisor) = self;
        let value = |at: &Measurement| Some((f64::from(at.connections), at.value(figure).ok()? / divisor));
        measurements.iter().filter_map(value).collect()
    }
}

fn draw_one(plan: &Plan, measurements: &[Measurement]) -> anyhow::Result<Chart> {
    let all: Vec<_> = plan.series.iter().map(|series| series.points(measurements)).collect();
    let highest = all.iter().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&WHITE)?;
        // Above the highest value there is room for its number, and for a legend.
        let room = if plan.series.len() > 1 { 1.5 } else { 1.25 };
        let heights = 0.0..if highest > 0.0 { highest * room } else { 1.0 };
        let mut plot = ChartBuilder::on(&root)
            .caption(plan.title, font(INK, FontStyle::Bold))
            .margin(12)
            .x_label_area_size(42)
            .y_label_area_size(70)
            .build_cartesian_2d(sizes(measurements), heights)?;
        plot.configure_mesh()
            .disable_x_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .axis_style(MUTED)
            .x_label_formatter(&|connections| size(connections.round() as u32))
            .y_labels(5)
            .y_label_formatter(&|value| short(*value))
            .label_style(font(INK, FontStyle::Normal))
            .x_desc("connections, logarithmic")
            .y_desc(plan.unit)
            .axis_desc_style(font(MUTED, FontStyle::Normal))
            .draw()?;
        for ((number, Series(name, ..)), points) in plan.series.iter().enumerate().zip(&all) {
            let color = COLORS[number];
            // The numbers of the first of two lines stand below it.
            let below = number + 1 < plan.series.len();
            let (offset, vertical) = if below { (9, VPos::Top) } else { (-8, VPos::Bottom) };
            let label = font(color, FontStyle::Bold).pos(Pos::new(HPos::Center, vertical));
            let point = |&(x, y): &(f64, f64)| {
                EmptyElement::at((x, y))
                    + Circle::new((0, 0), 4, color.filled())
                    + Text::new(short(y), (0, offset), label.clone())
            };
            plot.draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
                .label(*name)
                .legend(move |at| Circle::new(at, 4, color.filled()));
            plot.draw_series(points.iter().map(point))?;
        }
        if plan.series.len() > 1 {
            let labels = font(INK, FontStyle::Normal);
            plot.configure_series_labels()
                .position(SeriesLabelPosition::UpperRight)
                .label_font(labels)
                .draw()?;
        }
        root.present()?;
    }
    Ok(Chart { name: plan.name, title: plan.title, svg })
}

/// The horizontal axis, logarithmic: each size that was measured has its label, if the next one leaves room for it.
fn sizes(measurements: &[Measurement]) -> WithKeyPoints<LogCoord<f64>> {
    let logarithms: Vec<_> = measurements.iter().map(|at| f64::from(at.connections).log10()).collect();
    let (first, last) = (logarithms[0], logarithms[logarithms.len() - 1]);
    // Half a step of margin at both ends, for what stands at the first and the last size.
    let margin = if first < last { (last - first) / logarithms.len() as f64 * 0.6 } else { 1.0 };
    let label_width = (last - first + 2.0 * margin) * LABEL_SHARE;
    let mut labelled: Vec<f64> = Vec::new();
    for &size in logarithms.iter().rev() {
        if labelled.last().is_none_or(|&next| next - size >= label_width) {
            labelled.push(size);
        }
    }
    let labelled: Vec<_> = labelled.into_iter().map(|size| 10_f64.powf(size)).collect();
    let range = 10_f64.powf(first - margin)..10_f64.powf(last + margin);
    LogCoord::<f64>::from(range.log_scale()).with_key_points(labelled)
}

/// A number of connections, short: `1k`, `2.5k`, `1M`; all digits where that would hide some.
pub fn size(connections: u32) -> String {
    for (unit, letter) in [(1_000_000, 'M'), (1000, 'k')] {
        if connections >= unit && connections.is_multiple_of(unit / 10) {
            return format!("{}{letter}", f64::from(connections) / f64::from(unit));
        }
    }
    text(f64::from(connections), Unit::Count)
}

/// Three significant digits; whole from 100 on.
fn short(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 99.95 => text(value, Unit::Count),
        size if size >= 9.995 => format!("{value:.1}"),
        size if size >= 0.9995 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

fn font(color: RGBColor, style: FontStyle) -> TextStyle<'static> {
    // The SVG backend divides by 1.24.
    let font = FontDesc::new(FontFamily::Name("system-ui, sans-serif"), TEXT_PX * 1.24, style);
    TextStyle { font, color: color.to_backend_color(), pos: Pos::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_but_exact() {
        let sizes = [500, 999, 1000, 2500, 1234, 10_000, 999_725, 1_000_000, 1_500_000, 1_250_000];
        let texts = ["500", "999", "1k", "2.5k", "1,234", "10k", "999,725", "1M", "1.5M", "1250k"];
        assert_eq!(sizes.map(size), texts);
        let texts = [0.0, 0.0312, 0.31, 1.234, 9.999, 10.0, 99.99, 100.2, 18_412.7].map(short);
        assert_eq!(texts, ["0", "0.031", "0.310", "1.23", "10.0", "10.0", "100", "100", "18,413"]);
    }
}
