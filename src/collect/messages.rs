//! What libxenstat and the libraries under it print by themselves (fact 26), at every poll if something lasts.

use std::fs::File;
use std::io::Read;

use rustix::pipe::{PipeFlags, pipe_with};

use crate::collect::xenstat;
use crate::model::text::printable;

/// Lines of one poll, at most, and what a pipe holds.
const MAX_LINES: usize = 16;
const MAX_BYTES: u64 = 64 << 10;

/// Receives what libraries print, or, if no pipe can be had, lets them print to stderr.
pub struct Messages(Option<File>);

impl Messages {
    /// Redirects what libraries print from now on.
    pub fn redirect() -> Self {
        // What does not fit is lost, and libxenstat does not wait.
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok();
        Self(pipe.map(|(ours, theirs)| {
            xenstat::redirect_messages(theirs);
            ours.into()
        }))
    }

    /// The lines printed since the last time, each once.
    pub fn take(&mut self) -> Vec<String> {
        let mut printed = Vec::new();
        if let Some(pipe) = &mut self.0 {
            // Ends with an error when there is nothing left. Not a file's own function, which asks for its size first.
            let _ = pipe.take(MAX_BYTES).read_to_end(&mut printed);
        }
        distinct(&printed)
    }
}

fn distinct(printed: &[u8]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in printed.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let line = printable(line);
        if lines.len() < MAX_LINES && !lines.contains(&line) {
            lines.push(line);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_lines_without_repetitions() {
        assert_eq!(distinct(b""), [""; 0]);
        assert_eq!(distinct(b"one\ntwo\n\none\n"), ["one", "two"]);
        assert_eq!(
            distinct(&(0..99).flat_map(|n| format!("{n}\n").into_bytes()).collect::<Vec<u8>>()).len(),
            MAX_LINES
        );
    }
}
