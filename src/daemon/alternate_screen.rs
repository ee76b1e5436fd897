//! The terminal's alternate screen, on which `--watch` draws and which `q` closes.

use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::thread;

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use signal_hook::consts::SIGINT;

/// The alternate screen while it is shown. Dropping it brings back what the terminal showed before.
pub struct AlternateScreen(());

/// The keyboard's modes before.
static MODES: Mutex<Option<Termios>> = Mutex::new(None);

impl AlternateScreen {
    /// Shows it, if standard output is a terminal.
    pub fn open() -> Option<Self> {
        if !termios::isatty(io::stdout()) {
            return None;
        }
        write(b"\x1b[?1049h");
        if let Ok(before) = termios::tcgetattr(io::stdin()) {
            let mut modes = before.clone();
            modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &modes);
            *MODES.lock().unwrap() = Some(before);
            let _ = thread::Builder::new().name("keyboard".into()).spawn(|| {
                // The same as Ctrl-C.
                if io::stdin().lock().bytes().any(|key| matches!(key, Ok(b'q' | b'Q'))) {
                    let _ = signal_hook::low_level::raise(SIGINT);
                }
            });
        }
        Some(Self(()))
    }
}

impl Drop for AlternateScreen {
    fn drop(&mut self) {
        restore_keyboard();
        write(b"\x1b[?1049l");
    }
}

/// For an exit that does not close the alternate screen.
pub fn restore_keyboard() {
    if let Some(before) = MODES.lock().unwrap().take() {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

fn write(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}
