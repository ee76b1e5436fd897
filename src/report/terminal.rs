//! A table on a terminal that shows colours.

use std::env;
use std::io;

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use rustix::termios;

use crate::model::snapshot::State;
use crate::report::table::Row;

/// Whether standard output is a terminal on which a table can take the place of the one before.
pub fn has_screen() -> bool {
    termios::isatty(io::stdout()) && env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard output is a terminal that shows colours: `NO_COLOR`, `TERM=dumb`.
pub fn has_colours() -> bool {
    termios::isatty(io::stdout()) && AutoStream::choice(&io::stdout()) != ColorChoice::Never
}

/// What to write for a table.
pub fn text(rows: &[Row], has_colours: bool) -> String {
    rows.iter().map(|row| line(row, has_colours) + "\n").collect()
}

fn line(row: &Row, has_colours: bool) -> String {
    let style = match row.state {
        _ if !has_colours => return row.text.clone(),
        None => Style::new().invert(),
        Some(State { crashed: true, .. } | State { dying: true, .. }) => AnsiColor::Red.on_default(),
        Some(State { paused: true, .. } | State { shutdown: true, .. }) => AnsiColor::Yellow.on_default(),
        Some(State { running: true, .. }) => AnsiColor::Green.on_default(),
        Some(_) => return row.text.clone(),
    };
    format!("{style}{}{style:#}", row.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terminal_shows_states_in_colours() {
        let none = State::default();
        for (state, shown) in [
            (None, "\x1b[7mx\x1b[0m"),
            (Some(none), "x"),
            (Some(State { running: true, ..none }), "\x1b[32mx\x1b[0m"),
            (Some(State { running: true, paused: true, ..none }), "\x1b[33mx\x1b[0m"),
            (Some(State { shutdown: true, ..none }), "\x1b[33mx\x1b[0m"),
            (Some(State { shutdown: true, crashed: true, ..none }), "\x1b[31mx\x1b[0m"),
            (Some(State { dying: true, ..none }), "\x1b[31mx\x1b[0m"),
        ] {
            assert_eq!(line(&Row { text: "x".into(), state }, true), shown, "{state:?}");
            assert_eq!(line(&Row { text: "x".into(), state }, false), "x", "{state:?}");
        }
    }
}
