//! Bandwidth and latency over size as an SVG, both axes logarithmic.
//!
//! Written by hand: lines, text and two colour schemes, chosen by the reader's setting.

use std::fmt::Write;

use crate::perf::cell::Collective;
use crate::perf::report::Row;

const WIDTH: f64 = 1080.0;
const HEIGHT: f64 = 520.0;
/// The area of the two graphs.
const TOP: f64 = 64.0;
const BOTTOM: f64 = 400.0;
const LEFTS: [f64; 2] = [72.0, 612.0];
const GRAPH_WIDTH: f64 = 440.0;
/// The legend's rows.
const LEGEND_TOP: f64 = 458.0;
const LEGEND_COLUMNS: usize = 5;

/// Readable on white and on black.
const COLORS: [&str; 10] = [
    "#3b82f6", "#e8590c", "#2f9e44", "#d6336c", "#9c5ff0", "#0ca3a3", "#b58900", "#868e96",
    "#84a816", "#4f6bed",
];

const STYLE: &str = "\
<style>
svg{--ink:#1f2328;--faint:#d0d7de;--paper:#ffffff}
@media(prefers-color-scheme:dark){svg{--ink:#e6edf3;--faint:#3a424c;--paper:#0d1117}}
text{font:12px system-ui,sans-serif;fill:var(--ink)}
.title{font-size:15px;font-weight:600}
.grid{stroke:var(--faint);stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round}
</style>
";

/// One line of both graphs.
struct Series {
    name: String,
    /// Bytes, GB/s, microseconds.
    points: Vec<[f64; 3]>,
}

/// A logarithmic axis.
struct Axis {
    least: f64,
    most: f64,
    begin: f64,
    end: f64,
}

/// Draws all rows that have a size.
pub(crate) fn draw(title: &str, rows: &[Row]) -> String {
    let all = series(rows);
    let legend_rows = all.len().div_ceil(LEGEND_COLUMNS);
    let height = HEIGHT + 20.0 * legend_rows.saturating_sub(2) as f64;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         width=\"{WIDTH}\" height=\"{height}\" role=\"img\">\n<title>{0}</title>\n{STYLE}\
         <rect width=\"100%\" height=\"100%\" style=\"fill:var(--paper)\"/>\n\
         <text class=\"title\" x=\"{1}\" y=\"24\">{0}</text>\n",
        escape(title),
        LEFTS[0],
    );
    let names = ["Bus bandwidth (GB/s, 1 GB = 1e9 bytes)", "Latency (µs, median)"];
    for (which, (name, left)) in names.into_iter().zip(LEFTS).enumerate() {
        graph(&mut svg, &all, which + 1, name, left);
    }
    for (at, one) in all.iter().enumerate() {
        let x = LEFTS[0] + (at % LEGEND_COLUMNS) as f64 * 200.0;
        let y = LEGEND_TOP + (at / LEGEND_COLUMNS) as f64 * 20.0;
        let color = color(at);
        put(
            &mut svg,
            format_args!(
                "<line class=\"line\" stroke=\"{color}\"{} x1=\"{x}\" y1=\"{y}\" x2=\"{}\" y2=\"{y}\"/>\
                 <text x=\"{}\" y=\"{}\">{}</text>\n",
                dash(at),
                x + 28.0,
                x + 36.0,
                y + 4.0,
                escape(&one.name)
            ),
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The rows by what they have in common; a name says only what differs.
fn series(rows: &[Row]) -> Vec<Series> {
    let differs = |key: fn(&Row) -> String| {
        let mut keys = rows.iter().map(key);
        let first = keys.next();
        keys.any(|key| Some(key) != first)
    };
    let dtype = |row: &Row| row.cell.dtype.name().to_owned();
    let op = |row: &Row| row.cell.op.map_or("", nccl::ReduceOp::name).to_owned();
    let root = |row: &Row| row.cell.root.map_or_else(String::new, |root| format!("root {root}"));
    let reducing: Vec<Row> = rows.iter().filter(|row| row.cell.op.is_some()).cloned().collect();
    let ops = reducing.windows(2).any(|pair| op(&pair[0]) != op(&pair[1]));
    let roots = rows.iter().any(|row| row.cell.root.is_some_and(|root| root > 0));
    let dtypes = differs(dtype);
    let mut all: Vec<Series> = Vec::new();
    for row in rows.iter().filter(|row| row.cell.collective != Collective::Barrier) {
        let Some(form) = row.chosen() else { continue };
        let mut name = row.cell.collective.name().to_owned();
        for (shown, part) in [(dtypes, dtype(row)), (ops, op(row)), (roots, root(row))] {
            if shown && !part.is_empty() {
                name = format!("{name} {part}");
            }
        }
        let point =
            [row.cell.bytes() as f64, row.busbw(form.timing.median_us), form.timing.median_us];
        match all.iter_mut().find(|one| one.name == name) {
            Some(one) => one.points.push(point),
            None => all.push(Series { name, points: vec![point] }),
        }
    }
    for one in &mut all {
        one.points.sort_by(|a, b| a[0].total_cmp(&b[0]));
    }
    all
}

/// One graph: column `which` of the points over their size.
fn graph(svg: &mut String, all: &[Series], which: usize, name: &str, left: f64) {
    let right = left + GRAPH_WIDTH;
    put(svg, format_args!("<text x=\"{left}\" y=\"{}\">{name}</text>\n", TOP - 14.0));
    let column = |at: usize| {
        all.iter().flat_map(move |one| &one.points).filter_map(move |point| point.get(at).copied())
    };
    let (Some(x), Some(y)) =
        (Axis::over(column(0), 2.0, left, right), Axis::over(column(which), 10.0, BOTTOM, TOP))
    else {
        let y = (TOP + BOTTOM) / 2.0;
        put(svg, format_args!("<text x=\"{left}\" y=\"{y}\">nothing was measured</text>\n"));
        return;
    };
    for (at, text) in x.ticks(2.0, bytes) {
        put(
            svg,
            format_args!(
                "<line class=\"grid\" x1=\"{at:.1}\" y1=\"{TOP}\" x2=\"{at:.1}\" y2=\"{BOTTOM}\"/>\
                 <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{text}</text>\n",
                BOTTOM + 18.0
            ),
        );
    }
    for (at, text) in y.ticks(10.0, number) {
        put(
            svg,
            format_args!(
                "<line class=\"grid\" x1=\"{left}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\"/>\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{text}</text>\n",
                left - 8.0,
                at + 4.0
            ),
        );
    }
    let middle = left + GRAPH_WIDTH / 2.0;
    put(
        svg,
        format_args!(
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">Size (bytes)</text>\n",
            BOTTOM + 36.0
        ),
    );
    for (at, one) in all.iter().enumerate() {
        line(svg, one, at, which, &x, &y);
    }
}

/// The line of one series and a dot at each of its points.
fn line(svg: &mut String, one: &Series, at: usize, which: usize, x: &Axis, y: &Axis) {
    let color = color(at);
    let places: Vec<(f64, f64)> = one
        .points
        .iter()
        .filter_map(|point| Some((*point.first()?, *point.get(which)?)))
        .filter(|(_, value)| *value > 0.0)
        .map(|(size, value)| (x.place(size), y.place(value)))
        .collect();
    let path: Vec<String> = places.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
    put(
        svg,
        format_args!(
            "<polyline class=\"line\" stroke=\"{color}\"{} points=\"{}\"/>\n",
            dash(at),
            path.join(" ")
        ),
    );
    for (x, y) in places {
        put(svg, format_args!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{color}\"/>"));
    }
    svg.push('\n');
}

impl Axis {
    /// From the power of `base` below the least to that above the most; `None` without values.
    fn over(values: impl Iterator<Item = f64>, base: f64, begin: f64, end: f64) -> Option<Self> {
        let logs = values.filter(|value| *value > 0.0 && value.is_finite()).map(|v| v.log(base));
        let (least, most) =
            logs.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), log| (a.min(log), b.max(log)));
        // The logarithm of a power may be a hair beside the whole number.
        let (least, most) = ((least + 1e-9).floor(), (most - 1e-9).ceil());
        let most = if most > least { most } else { least + 1.0 };
        (least.is_finite() && most.is_finite()).then(|| Self {
            least: base.powf(least),
            most: base.powf(most),
            begin,
            end,
        })
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value / self.least).ln() / (self.most / self.least).ln();
        self.begin + share * (self.end - self.begin)
    }

    /// Powers of `base`, at most about ten of them, with their texts.
    fn ticks(&self, base: f64, text: fn(f64) -> String) -> Vec<(f64, String)> {
        let powers = (self.most / self.least).log(base).round();
        let stride = (powers / 8.0).ceil().max(1.0);
        let values =
            std::iter::successors(Some(self.least), |value| Some(value * base.powf(stride)));
        let within = values.take_while(|value| *value <= self.most * 1.000_001);
        within.map(|value| (self.place(value), text(value))).collect()
    }
}

fn color(at: usize) -> &'static str {
    COLORS.get(at % COLORS.len()).copied().unwrap_or("gray")
}

/// A second way to tell lines apart, for eyes and printers that see no colours.
fn dash(at: usize) -> &'static str {
    match at % 4 {
        0 => "",
        1 => " stroke-dasharray=\"7 3\"",
        2 => " stroke-dasharray=\"2 3\"",
        _ => " stroke-dasharray=\"9 3 2 3\"",
    }
}

/// `8`, `4K`, `1M`.
fn bytes(value: f64) -> String {
    for (unit, suffix) in [(1_073_741_824.0, "G"), (1_048_576.0, "M"), (1024.0, "K")] {
        if value >= unit {
            return format!("{}{suffix}", number(value / unit));
        }
    }
    number(value)
}

/// `1000`, `0.01`.
fn number(value: f64) -> String {
    if value >= 1.0 {
        format!("{value:.0}")
    } else {
        let digits = format!("{value:.9}");
        digits.trim_end_matches('0').trim_end_matches('.').to_owned()
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Writing to a `String` does not fail.
fn put(svg: &mut String, text: std::fmt::Arguments<'_>) {
    let _ = svg.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_reaches_from_power_to_power() {
        let axis = Axis::over([3.0, 900.0].into_iter(), 10.0, 0.0, 300.0).unwrap();
        assert!((axis.least - 1.0).abs() < 1e-9 && (axis.most - 1000.0).abs() < 1e-6);
        assert!((axis.place(10.0) - 100.0).abs() < 1e-6);
        let ticks = axis.ticks(10.0, number);
        let texts: Vec<&str> = ticks.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["1", "10", "100", "1000"]);
        assert!(Axis::over([0.0].into_iter(), 10.0, 0.0, 1.0).is_none());
        let one = Axis::over([1000.0].into_iter(), 10.0, 0.0, 1.0).unwrap();
        assert!(one.most > one.least);
    }

    #[test]
    fn numbers_have_no_superfluous_digits() {
        assert_eq!([0.01, 0.1, 1.0, 1000.0].map(number), ["0.01", "0.1", "1", "1000"]);
        assert_eq!([8.0, 4096.0, 1_048_576.0].map(bytes), ["8", "4K", "1M"]);
    }

    #[test]
    fn without_rows_it_is_still_a_picture() {
        let svg = draw("a < b & c", &[]);
        assert!(svg.contains("a &lt; b &amp; c") && svg.contains("nothing was measured"));
        assert!(svg.trim_end().ends_with("</svg>"));
    }
}
