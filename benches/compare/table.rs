//! Numbers for people.

use std::fmt;

/// One line: what berth needs, what the peer needs, and what that makes.
#[derive(Debug, Default)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// Of berth.
    pub berth: String,
    /// Of the peer, or the floor.
    pub peer: String,
    /// berth's by the peer's.
    pub ratio: Option<f64>,
    /// What it shall be.
    pub goal: String,
    /// How many were measured.
    pub count: String,
}

/// All lines.
#[derive(Debug, Default)]
pub struct Table(pub Vec<Row>);

impl Table {
    /// A row of two series of nanoseconds.
    pub fn compare(&mut self, what: &str, berth: &[u64], peer: &[u64], goal: &str) {
        let (ours, theirs) = (median(berth), median(peer));
        eprintln!("bench:   {what}: {} / {}", spread(berth), spread(peer));
        self.0.push(Row {
            what: what.to_owned(),
            berth: spread(berth),
            peer: spread(peer),
            ratio: Some(ours / theirs),
            goal: goal.to_owned(),
            count: berth.len().to_string(),
        });
    }

    /// A row of berth's alone.
    pub fn fact(&mut self, what: &str, berth: String, goal: &str) {
        eprintln!("bench:   {what}: {berth}");
        self.0.push(Row { what: what.to_owned(), berth, goal: goal.to_owned(), ..Row::default() });
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "berth", "peer or floor", "ratio", "goal", "n"].map(str::to_owned);
        let rows = self.0.iter().map(|row| {
            let ratio = row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
            [row.what.clone(), row.berth.clone(), row.peer.clone(), ratio, row.goal.clone(), row.count.clone()]
        });
        let all: Vec<[String; 6]> = std::iter::once(head).chain(rows).collect();
        let width = |column: usize| all.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: [usize; 6] = std::array::from_fn(width);
        for row in &all {
            let mut line = String::new();
            for (column, (text, width)) in row.iter().zip(widths).enumerate() {
                // Words to the left, numbers to the right.
                let cell = if column == 0 { format!("{text:<width$}") } else { format!("{text:>width$}") };
                line.push_str(&cell);
                line.push_str("  ");
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// The middle one, or the mean of the two in the middle.
pub fn median(times: &[u64]) -> f64 {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let middle = sorted.len() / 2;
    let at = |index: usize| sorted.get(index).map_or(f64::NAN, |time| *time as f64);
    if sorted.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 }
}

/// The median, and between which values half of all lie, in the unit that suits the median.
fn spread(times: &[u64]) -> String {
    let mut sorted = times.to_vec();
    sorted.sort_unstable();
    let middle = median(times);
    let (unit, scale) = if middle < 1e5 { ("µs", 1e3) } else { ("ms", 1e6) };
    let at = |index: usize| sorted.get(index).map_or(f64::NAN, |time| *time as f64) / scale;
    let (low, high) = (at(sorted.len() / 4), at(sorted.len() * 3 / 4));
    format!("{:.2} {unit} ({low:.2}–{high:.2})", middle / scale)
}
