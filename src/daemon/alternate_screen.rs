//! The terminal's alternate screen, which `--watch` draws on and `q` closes.

use std::io::{self, Read, Write};
use std::sync::Mutex;
use std::thread;

use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use signal_hook::consts::SIGINT;

/// The page that is watched, beside what was on the terminal before, which comes back at the end.
pub struct Page(());

/// The keyboard as it was before.
static KEYBOARD: Mutex<Option<Termios>> = Mutex::new(None);

impl Page {
    /// Opens it, if standard output is a terminal.
    pub fn open() -> Option<Self> {
        if !termios::isatty(io::stdout()) {
            return None;
        }
        show(b"\x1b[?1049h");
        if let Ok(before) = termios::tcgetattr(io::stdin()) {
            let mut keys = before.clone();
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &keys);
            *KEYBOARD.lock().unwrap() = Some(before);
            let _ = thread::Builder::new().name("keyboard".into()).spawn(|| {
                // As Ctrl-C does.
                if io::stdin().lock().bytes().any(|key| matches!(key, Ok(b'q' | b'Q'))) {
                    let _ = signal_hook::low_level::raise(SIGINT);
                }
            });
        }
        Some(Self(()))
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        give_back_the_keyboard();
        show(b"\x1b[?1049l");
    }
}

/// For who ends without closing the page.
pub fn give_back_the_keyboard() {
    if let Some(before) = KEYBOARD.lock().unwrap().take() {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &before);
    }
}

fn show(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}
