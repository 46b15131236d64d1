//! Tables as Markdown: readable in a terminal and ready for a document.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, Table};

/// An empty table whose first `names` columns are names and whose other columns are figures.
pub fn table<const COLUMNS: usize>(names: usize, header: [&str; COLUMNS]) -> Table {
    let mut table = Table::new();
    table.load_style(ASCII_MARKDOWN).set_header(header);
    for column in table.column_iter_mut().skip(names) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
