//! What is printed, and how: complaints in one line, tables with columns under each other.

use std::fmt::Display;
use std::io::{self, Write};

/// Prints a line at once. Who reads may have gone (a pipe into `head`): then nothing is to be said to anybody.
pub(super) fn say(line: impl Display) {
    say_to(&mut io::stdout().lock(), line);
}

/// The same, to somebody else.
pub(super) fn say_to(output: &mut dyn Write, line: impl Display) {
    let _ = writeln!(output, "{line}").and_then(|()| output.flush());
}

/// Says on the standard error what went wrong.
pub(super) fn complain(what: impl Display) {
    let _ = writeln!(io::stderr().lock(), "keyval: {what}");
}

/// Rows of equal length as lines, the first as head. The last column is not filled up.
pub(super) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let wide = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let text = table(&[row(["a", "bb", "c"]), row(["long", "é", ""]), row(["", "", "x"])]);
        assert_eq!(text, "a     bb  c\nlong  é\n          x");
    }
}
