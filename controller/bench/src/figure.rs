//! Figures and the table they are printed in.

use serde::Serialize;

/// What was measured of one thing, in the figure's unit.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

impl Sample {
    /// A sample of one.
    pub fn one(value: f64) -> Sample {
        Sample(vec![value])
    }

    /// Adds a value.
    pub fn add(&mut self, value: f64) {
        self.0.push(value);
    }

    fn summary(&self) -> Option<Summary> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |share: f64| {
            let last = sorted.len().checked_sub(1)?;
            sorted.get((share * last as f64).round() as usize).copied()
        };
        Some(Summary { n: sorted.len(), median: at(0.5)?, min: at(0.0)?, max: at(1.0)?, p99: at(0.99)? })
    }
}

impl FromIterator<f64> for Sample {
    fn from_iter<I: IntoIterator<Item = f64>>(values: I) -> Self {
        Sample(values.into_iter().collect())
    }
}

/// A sample in five numbers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    n: usize,
    median: f64,
    min: f64,
    max: f64,
    p99: f64,
}

/// What a figure may be.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// At most so many times the raw tool's.
    Ratio(f64),
    /// At least so many times the raw tool's: of what is the better the more there is.
    AtLeast(f64),
    /// The median at most this.
    Median(f64),
    /// The 99th percentile at most this.
    P99(f64),
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figure {
    name: String,
    unit: &'static str,
    ours: Summary,
    raw: Option<Summary>,
    ratio: Option<f64>,
    difference: Option<f64>,
    budget: String,
    met: Option<bool>,
    note: String,
}

/// Everything that was measured.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    figures: Vec<Figure>,
}

impl Report {
    /// Adds a figure of ours, with the raw tool's when there is one. Nothing measured, nothing added.
    pub fn add(
        &mut self,
        name: impl Into<String>,
        unit: &'static str,
        ours: &Sample,
        raw: Option<&Sample>,
        budget: &str,
    ) {
        let Some(ours) = ours.summary() else { return };
        let raw = raw.and_then(Sample::summary);
        let figure = Figure {
            name: name.into(),
            unit,
            ratio: raw.as_ref().filter(|raw| raw.median > 0.0).map(|raw| ours.median / raw.median),
            difference: raw.as_ref().map(|raw| ours.median - raw.median),
            ours,
            raw,
            budget: budget.to_owned(),
            met: None,
            note: load(),
        };
        eprintln!("bench: {} · {} {unit}", figure.name, number(figure.ours.median));
        self.figures.push(figure);
    }

    /// Judges the figure added last.
    pub fn bound(&mut self, bound: Bound) {
        if let Some(last) = self.figures.last_mut() {
            last.met = match bound {
                Bound::Ratio(most) => last.ratio.map(|ratio| ratio <= most),
                Bound::AtLeast(least) => last.ratio.map(|ratio| ratio >= least),
                Bound::Median(most) => Some(last.ours.median <= most),
                Bound::P99(most) => Some(last.ours.p99 <= most),
            };
        }
    }

    /// Says more about the figure added last.
    pub fn note(&mut self, text: impl std::fmt::Display) {
        if let Some(last) = self.figures.last_mut() {
            last.note = format!("{text}; {}", last.note);
        }
    }

    /// The report as text, a line a figure, notes below.
    pub fn table(&self) -> String {
        let head = [
            "FIGURE",
            "UNIT",
            "N",
            "MEDIAN",
            "MIN",
            "MAX",
            "P99",
            "RAW N",
            "RAW MEDIAN",
            "RAW MIN",
            "RAW MAX",
            "RATIO",
            "MORE",
            "BUDGET",
            "MET",
        ];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        rows.extend(self.figures.iter().map(Figure::cells));
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: Vec<usize> = (0..head.len()).map(width).collect();
        let mut text = String::new();
        for row in &rows {
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                let fill = " ".repeat(width - cell.chars().count());
                // Words to the left, numbers to the right.
                let padded = if (2..13).contains(&column) { format!("{fill}{cell}") } else { format!("{cell}{fill}") };
                text.push_str(&padded);
                text.push_str("  ");
            }
            text.truncate(text.trim_end().len());
            text.push('\n');
        }
        for figure in self.figures.iter().filter(|figure| !figure.note.is_empty()) {
            text.push_str(&format!("* {}: {}\n", figure.name, figure.note));
        }
        text
    }
}

impl Figure {
    fn cells(&self) -> Vec<String> {
        let dash = || "-".to_owned();
        let raw = |value: fn(&Summary) -> f64| self.raw.as_ref().map_or_else(dash, |raw| number(value(raw)));
        vec![
            self.name.clone(),
            self.unit.to_owned(),
            self.ours.n.to_string(),
            number(self.ours.median),
            number(self.ours.min),
            number(self.ours.max),
            number(self.ours.p99),
            self.raw.as_ref().map_or_else(dash, |raw| raw.n.to_string()),
            raw(|raw| raw.median),
            raw(|raw| raw.min),
            raw(|raw| raw.max),
            self.ratio.map_or_else(dash, |ratio| format!("{ratio:.2}")),
            self.difference.map_or_else(dash, number),
            self.budget.clone(),
            self.met.map_or_else(dash, |met| if met { "met" } else { "missed" }.to_owned()),
        ]
    }
}

/// Three significant digits or so, which is more than any of this repeats to.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load average then {}", text.split_whitespace().next().unwrap_or("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_shows_both_sides_and_the_budget() {
        let mut report = Report::default();
        let ours: Sample = (1..=100).map(f64::from).collect();
        report.add("create", "ms", &ours, Some(&Sample::one(25.25)), "2 ×");
        report.bound(Bound::Ratio(2.0));
        report.note("a remark");
        report.figures[0].note = "a remark".to_owned();
        report.add("nothing", "ms", &Sample::default(), None, "");
        insta::assert_snapshot!(report.table(), @r"
        FIGURE  UNIT    N  MEDIAN  MIN  MAX  P99  RAW N  RAW MEDIAN  RAW MIN  RAW MAX  RATIO  MORE  BUDGET  MET
        create  ms    100      51    1  100   99      1        25.2     25.2     25.2   2.02  25.8  2 ×     missed
        * create: a remark
        ");
    }
}
