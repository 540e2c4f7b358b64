//! Columns as kubectl prints them: three spaces apart, as wide as their widest cell.

use super::colour;

/// Rows under headings; empty cells print as `<none>` only where the server says so.
pub struct Table {
    headings: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new(headings: Vec<String>) -> Self {
        Self { headings, rows: Vec::new() }
    }

    /// Adds a row.
    pub fn push(&mut self, row: Vec<String>) {
        self.rows.push(row);
    }

    /// The text, with or without the line of headings; words of state in colour where the terminal takes it.
    pub fn render(&self, with_headings: bool) -> String {
        self.text(with_headings, colour::wanted())
    }

    fn text(&self, with_headings: bool, coloured: bool) -> String {
        let count = self.headings.len();
        let all = || std::iter::once(&self.headings).filter(|_| with_headings).chain(&self.rows);
        let widths: Vec<usize> = (0..count)
            .map(|column| all().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
            .collect();
        let mut text = String::new();
        for row in all() {
            let mut line = String::new();
            for ((cell, width), heading) in row.iter().zip(&widths).zip(&self.headings) {
                let painted =
                    Some(cell).filter(|_| coloured && colour::is_state(heading)).and_then(|cell| colour::state(cell));
                line.push_str(painted.as_ref().unwrap_or(cell));
                line.extend(std::iter::repeat_n(' ', width + 3 - cell.chars().count()));
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_blanks() {
        let mut table = Table::new(vec!["NAME".to_owned(), "READY".to_owned()]);
        table.push(vec!["a-long-name".to_owned(), "True".to_owned()]);
        table.push(vec!["b".to_owned(), String::new()]);
        assert_eq!(table.render(true), "NAME          READY\na-long-name   True\nb\n");
        assert_eq!(table.render(false), "a-long-name   True\nb\n");
        assert_eq!(table.text(false, true), "a-long-name   \x1b[32mTrue\x1b[0m\nb\n");
    }
}
