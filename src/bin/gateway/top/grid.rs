//! Rows in columns that make the best of a width: what matters least goes
//! first, and what is cut says so.

use ratatui::{
    style::{Modifier, Style},
    text::{Line, Span},
};

/// A column.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    pub(crate) width: usize,
    /// The lowest ones stay when there is no room for all.
    pub(crate) rank: u8,
    pub(crate) right: bool,
}

/// Between two columns.
const GAP: usize = 2;

/// Columns that fit into a width, with the rest of it given to the last one.
#[derive(Debug)]
pub(crate) struct Grid {
    columns: Vec<Column>,
    chosen: Vec<usize>,
    last: usize,
}

impl Grid {
    pub(crate) fn new(columns: &[Column], width: usize) -> Self {
        let mut chosen: Vec<usize> = (0..columns.len()).collect();
        let needs = |chosen: &[usize]| {
            chosen.iter().map(|at| columns[*at].width + GAP).sum::<usize>().saturating_sub(GAP)
        };
        while needs(&chosen) > width && chosen.len() > 1 {
            let least = chosen.iter().copied().max_by_key(|at| (columns[*at].rank, *at));
            chosen.retain(|at| Some(*at) != least);
        }
        let last = chosen.last().map_or(0, |at| columns[*at].width);
        let last = (last + width).saturating_sub(needs(&chosen));
        Self { columns: columns.to_vec(), chosen, last }
    }

    pub(crate) fn head(&self) -> Line<'static> {
        let cells: Vec<_> =
            self.columns.iter().map(|it| (it.title.to_owned(), Style::new())).collect();
        self.row(&cells).style(Style::new().add_modifier(Modifier::BOLD))
    }

    pub(crate) fn row(&self, cells: &[(String, Style)]) -> Line<'static> {
        let mut spans = Vec::new();
        for at in &self.chosen {
            let column = &self.columns[*at];
            let is_last = self.chosen.last() == Some(at);
            let width = if is_last { self.last } else { column.width };
            let (text, style) = &cells[*at];
            let text = fit(text, width);
            let pad = " ".repeat(width - text.chars().count());
            let text = if column.right { pad + &text } else { text + &pad };
            spans.push(Span::styled(text, *style));
            if !is_last {
                spans.push(Span::raw(" ".repeat(GAP)));
            }
        }
        Line::from(spans)
    }
}

/// A text of at most so many characters, without what moves a cursor.
pub(crate) fn fit(text: &str, width: usize) -> String {
    let text: String = crate::show::clean(text);
    if text.chars().count() <= width {
        return text;
    }
    let mut cut: String = text.chars().take(width.saturating_sub(1)).collect();
    if width > 0 {
        cut.push('…');
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn column(title: &'static str, width: usize, rank: u8) -> Column {
        Column { title, width, rank, right: false }
    }

    const COLUMNS: [Column; 3] = [column("A", 4, 0), column("BB", 6, 2), column("C", 3, 1)];

    fn text(line: &Line<'_>) -> String {
        line.spans.iter().map(|span| span.content.as_ref()).collect()
    }

    #[test]
    fn what_matters_least_goes_first() {
        for (width, head) in [
            (20, "A     BB      C     "),
            (17, "A     BB      C  "),
            (10, "A     C   "),
            (3, "A  "),
        ] {
            assert_eq!(text(&Grid::new(&COLUMNS, width).head()), head, "{width}");
        }
    }

    #[test]
    fn what_is_cut_says_so_and_moves_no_cursor() {
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("a\x1b[2J", 9), "a [2J");
        assert_eq!(fit("abc", 0), "");
    }
}
