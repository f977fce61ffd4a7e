//! The charts, as SVG with a background of their own, so that they can be read on light and on dark pages.
//!
//! The page recolours them in the dark: `page.css` names the colours below.

use plotters::coord::combinators::{BindKeyPoints, LogCoord, WithKeyPoints};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;
use plotters::style::FontDesc;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::text::{short, size, tick};
use crate::measurement::Measurement;

const CARD: RGBColor = RGBColor(0xFF, 0xFF, 0xFF);
const INK: RGBColor = RGBColor(0x1F, 0x29, 0x37);
const MUTED: RGBColor = RGBColor(0x59, 0x63, 0x73);
const GRID: RGBColor = RGBColor(0xE3, 0xE6, 0xEB);
const FIRST: RGBColor = RGBColor(0x1D, 0x5F, 0xD1);
const SECOND: RGBColor = RGBColor(0xC2, 0x57, 0x0C);
/// Text on a bar.
const ON_BAR: RGBColor = RGBColor(0xFE, 0xFE, 0xFE);

const WIDTH: u32 = 520;
const HEIGHT: u32 = 330;
/// Of the axis numbers and the values at the points.
const TEXT_PX: f64 = 13.0;
/// The part of the horizontal axis that a label needs for itself.
const LABEL_SHARE: f64 = 0.1;
/// The height of a number beside a bar.
const LINE_PX: i32 = 16;
/// The least height of a bar that holds its value.
const BAR_TEXT_PX: i32 = 18;
const BAR_WIDTH_MAX_PX: i32 = 64;
/// How much a line rises between two points before it would cross the number at the lower one.
const STEEP_PX: i32 = 30;

pub struct Chart {
    /// Its file is called this, and `.svg`.
    pub name: &'static str,
    /// As it stands above it.
    pub title: &'static str,
    pub svg: String,
}

/// What a chart shows: one or two series over the same sizes.
struct Plan {
    name: &'static str,
    title: &'static str,
    /// What the vertical axis counts, with its unit.
    unit: &'static str,
    /// The first is drawn first: at the bottom of a stack, below a second line.
    series: &'static [Series],
    shape: Shape,
}

struct Series {
    name: &'static str,
    color: RGBColor,
    /// Not finite where there is none.
    value: fn(&Measurement) -> f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shape {
    Lines,
    Stack,
}

static PLANS: [Plan; 5] = [
    Plan {
        name: "memory",
        title: "Memory per connection",
        unit: "bytes per connection",
        series: &[
            Series { name: "kernel", color: FIRST, value: |at| at.kernel_bytes_per_connection },
            Series { name: "relay (user)", color: SECOND, value: |at| at.user_bytes_per_player },
        ],
        shape: Shape::Stack,
    },
    Plan {
        name: "ramp",
        title: "Ramp",
        unit: "connections upgraded and joined per second",
        series: &[Series { name: "ramp", color: FIRST, value: |at| at.ramp_per_s }],
        shape: Shape::Lines,
    },
    Plan {
        name: "idle-cpu",
        title: "CPU of the relay while nobody plays",
        unit: "cores",
        series: &[Series { name: "idle", color: FIRST, value: |at| at.idle_cpu_cores }],
        shape: Shape::Lines,
    },
    Plan {
        name: "frame-cpu",
        title: "CPU of the relay per delivered frame",
        unit: "µs per frame",
        series: &[Series { name: "frame", color: FIRST, value: Measurement::frame_cpu_us }],
        shape: Shape::Lines,
    },
    Plan {
        name: "frame-age",
        title: "Age of positions at the active players",
        unit: "ms from when a move was meant to be sent",
        series: &[
            Series { name: "p50", color: FIRST, value: |at| at.age_us(at.p50_us) / 1e3 },
            Series { name: "p99", color: SECOND, value: |at| at.age_us(at.p99_us) / 1e3 },
        ],
        shape: Shape::Lines,
    },
];

impl Measurement {
    /// µs of the relay's processor time per delivered frame; not finite where no frame was.
    pub fn frame_cpu_us(&self) -> f64 {
        if self.frames > 0 { self.cpu_us_per_frame } else { f64::NAN }
    }

    /// `us` if there was anything that could have an age.
    pub fn age_us(&self, us: f64) -> f64 {
        if self.frames > 0 { us } else { f64::NAN }
    }
}

/// Every chart of which at least one value is known, in reading order. `measurements`: at least one, rising, from 1 connection.
pub fn draw(measurements: &[Measurement]) -> anyhow::Result<Vec<Chart>> {
    let known = |plan: &&Plan| {
        let mut values = plan.series.iter().flat_map(|series| measurements.iter().map(series.value));
        values.any(f64::is_finite)
    };
    PLANS.iter().filter(known).map(|plan| draw_one(plan, measurements)).collect()
}

fn draw_one(plan: &Plan, measurements: &[Measurement]) -> anyhow::Result<Chart> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
        root.fill(&CARD)?;
        let plot = draw_frame(&root, plan, measurements)?;
        match plan.shape {
            Shape::Lines => draw_lines(&root, &plot, plan, measurements)?,
            Shape::Stack => draw_stack(&root, &plot, plan, measurements)?,
        }
        root.present()?;
    }
    Ok(Chart { name: plan.name, title: plan.title, svg })
}

type Root<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Sizes = WithKeyPoints<LogCoord<f64>>;
type Plot<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Cartesian2d<Sizes, RangedCoordf64>>;

/// Title, unit, legend, grid and the numbers at the axes.
fn draw_frame<'a, 'b>(
    root: &'a Root<'b>,
    plan: &Plan,
    measurements: &[Measurement],
) -> anyhow::Result<Plot<'a, 'b>> {
    let left = Pos::new(HPos::Left, VPos::Top);
    root.draw(&Text::new(plan.title, (16, 14), font(16.0, INK, FontStyle::Bold).pos(left)))?;
    root.draw(&Text::new(plan.unit, (16, 36), font(TEXT_PX, MUTED, FontStyle::Normal).pos(left)))?;
    let legend = plan.series.len() > 1;
    if legend {
        let mut x = 16;
        for series in plan.series {
            root.draw(&Rectangle::new([(x, 59), (x + 11, 70)], series.color.filled()))?;
            root.draw(&Text::new(
                series.name,
                (x + 17, 58),
                font(TEXT_PX, INK, FontStyle::Normal).pos(left),
            ))?;
            x += 17 + 20 + 7 * series.name.len() as i32;
        }
    }

    let mut plot = ChartBuilder::on(root)
        .margin_top(if legend { 80 } else { 60 })
        .margin_right(if plan.shape == Shape::Stack { 40 } else { 16 })
        .margin_bottom(8)
        .margin_left(8)
        .x_label_area_size(42)
        .y_label_area_size(60)
        .build_cartesian_2d(sizes(measurements), 0.0..top(plan, measurements))?;
    let label = font(TEXT_PX, INK, FontStyle::Normal);
    plot.configure_mesh()
        .disable_x_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_style(MUTED)
        .x_label_formatter(&|connections| size(connections.round() as u32))
        .y_labels(5)
        .y_label_formatter(&|value| tick(*value))
        .x_label_style(label.clone())
        .y_label_style(label)
        .x_desc("connections, logarithmic")
        .axis_desc_style(font(TEXT_PX, MUTED, FontStyle::Normal))
        .draw()?;
    Ok(plot)
}

/// The horizontal axis, logarithmic: each size that was measured has its label, if the next one leaves room for it.
fn sizes(measurements: &[Measurement]) -> Sizes {
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

/// A point for every value, its number beside it: above, or below where a second line is above.
fn draw_lines(
    root: &Root<'_>,
    plot: &Plot<'_, '_>,
    plan: &Plan,
    measurements: &[Measurement],
) -> anyhow::Result<()> {
    for (number, series) in plan.series.iter().enumerate() {
        let known = measurements.iter().map(|at| (f64::from(at.connections), (series.value)(at)));
        let known: Vec<_> = known.filter(|(_, value)| value.is_finite()).collect();
        let points: Vec<_> = known.iter().map(|point| plot.backend_coord(point)).collect();
        if points.len() > 1 {
            root.draw(&PathElement::new(points.clone(), series.color.stroke_width(2)))?;
        }
        let below = number + 1 < plan.series.len();
        for (at, (&(x, y), (_, value))) in points.iter().zip(&known).enumerate() {
            root.draw(&Circle::new((x, y), 4, series.color.filled()))?;
            // Away from a steep line: to the left of one that rises, to the right of one that falls.
            let neighbour = |step: isize| at.checked_add_signed(step).and_then(|at| points.get(at));
            let steep = |step| neighbour(step).is_some_and(|&(_, other)| y - other > STEEP_PX);
            let (x, horizontal) = match (steep(-1), steep(1)) {
                (false, true) if !below => (x + 5, HPos::Right),
                (true, false) if !below => (x - 5, HPos::Left),
                _ => (x, HPos::Center),
            };
            let (y, vertical) = if below { (y + 9, VPos::Top) } else { (y - 8, VPos::Bottom) };
            let style = font(TEXT_PX, series.color, FontStyle::Bold).pos(Pos::new(horizontal, vertical));
            root.draw(&Text::new(short(*value), (x, y), style))?;
        }
    }
    Ok(())
}

/// A bar for every size, the series on top of each other. Each part has its number in it, or beside it where it is too thin.
fn draw_stack(
    root: &Root<'_>,
    plot: &Plot<'_, '_>,
    plan: &Plan,
    measurements: &[Measurement],
) -> anyhow::Result<()> {
    let middles: Vec<_> =
        measurements.iter().map(|at| plot.backend_coord(&(f64::from(at.connections), 0.0)).0).collect();
    let nearest = middles.windows(2).map(|pair| pair[1] - pair[0]).min();
    let half = (nearest.unwrap_or(i32::MAX) / 2).clamp(2, BAR_WIDTH_MAX_PX) / 2;
    for (&middle, at) in middles.iter().zip(measurements) {
        let mut free = plot.backend_coord(&(f64::from(at.connections), 0.0)).1 - LINE_PX / 2;
        let mut sum = 0.0;
        for series in plan.series {
            let value = (series.value)(at);
            // Below zero there is nothing to stack: the measured growth was less than what others gave back.
            let height = if value.is_finite() { value.max(0.0) } else { 0.0 };
            let bottom = plot.backend_coord(&(f64::from(at.connections), sum)).1;
            sum += height;
            let top = plot.backend_coord(&(f64::from(at.connections), sum)).1;
            root.draw(&Rectangle::new(
                [(middle - half, top), (middle + half, bottom)],
                series.color.filled(),
            ))?;
            let text = if value.is_finite() { short(value) } else { "n/a".to_owned() };
            let fits = bottom - top >= BAR_TEXT_PX && 2 * half >= 8 * text.len() as i32;
            let (x, color, horizontal) = if fits {
                (middle, ON_BAR, HPos::Center)
            } else {
                (middle + half + 4, series.color, HPos::Left)
            };
            let style = font(TEXT_PX, color, FontStyle::Bold).pos(Pos::new(horizontal, VPos::Center));
            let mut y = i32::midpoint(top, bottom);
            if !fits {
                // Not into the axis, nor into the number of the part below.
                y = y.min(free);
                free = y - LINE_PX;
            }
            root.draw(&Text::new(text, (x, y), style))?;
        }
        let above = (middle, plot.backend_coord(&(f64::from(at.connections), sum)).1 - 8);
        let style = font(TEXT_PX, INK, FontStyle::Bold).pos(Pos::new(HPos::Center, VPos::Bottom));
        root.draw(&Text::new(short(sum), above, style))?;
    }
    Ok(())
}

/// The end of the vertical axis: a quarter above the highest value, which has its number there.
fn top(plan: &Plan, measurements: &[Measurement]) -> f64 {
    let height = |at: &Measurement| {
        let known = plan.series.iter().map(|series| (series.value)(at)).filter(|value| value.is_finite());
        if plan.shape == Shape::Stack { known.sum() } else { known.fold(0.0, f64::max) }
    };
    let highest = measurements.iter().map(height).fold(0.0, f64::max);
    if highest > 0.0 { highest * 1.25 } else { 1.0 }
}

/// `px` high.
fn font(px: f64, color: RGBColor, style: FontStyle) -> TextStyle<'static> {
    // The SVG backend divides by 1.24.
    let font = FontDesc::new(FontFamily::Name("system-ui, sans-serif"), px * 1.24, style);
    TextStyle { font, color: color.to_backend_color(), pos: Pos::default() }
}
