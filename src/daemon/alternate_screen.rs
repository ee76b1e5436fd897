//! The terminal's alternate screen, on which `--watch` draws, which `q` closes and which Ctrl-Z leaves; and its keyboard.

use std::fs;
use std::io::{self, Write};
use std::sync::Mutex;
use std::thread;

use rustix::termios::{self, LocalModes, OptionalActions, SpecialCodeIndex, Termios};
use signal_hook::consts::{SIGCONT, SIGINT, SIGQUIT, SIGTSTP, SIGWINCH};
use signal_hook::iterator::Signals;
use signal_hook::low_level;
use termion::event::Key;
use termion::input::TermRead;

use crate::logging::stderr;
use crate::report::terminal;

const ENTER: &[u8] = b"\x1b[?1049h";
/// And shows the cursor, which is hidden while the table is drawn.
const LEAVE: &[u8] = b"\x1b[?1049l\x1b[?25h";

/// The alternate screen while it is shown. Dropping it brings back what the terminal showed before.
pub struct AlternateScreen(());

/// The keyboard's modes before.
static MODES: Mutex<Option<Termios>> = Mutex::new(None);

/// The signals of job control, caught while it is shown and not followed yet.
static SIGNALS: Mutex<Option<Signals>> = Mutex::new(None);

impl AlternateScreen {
    /// Shows it, if standard output is a terminal that has one.
    pub fn open() -> Option<Self> {
        if !terminal::has_screen() {
            return None;
        }
        *SIGNALS.lock().unwrap() = Signals::new([SIGTSTP, SIGCONT, SIGQUIT, SIGWINCH]).ok();
        write(ENTER);
        if let Ok(before) = termios::tcgetattr(io::stdin()) {
            *MODES.lock().unwrap() = Some(before);
            set_keyboard();
        }
        Some(Self(()))
    }
}

impl Drop for AlternateScreen {
    fn drop(&mut self) {
        restore_keyboard();
        write(LEAVE);
    }
}

/// For an exit while standard output may be blocked: the alternate screen stays.
pub fn close() {
    restore_keyboard();
    stderr::finish();
}

fn restore_keyboard() {
    if let Some(before) = MODES.lock().unwrap().as_ref() {
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, before);
    }
}

/// Keys are read as they are typed, and not shown.
fn set_keyboard() {
    if let Some(mut modes) = MODES.lock().unwrap().clone() {
        modes.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        // The program that used it before may not have waited for keys.
        (modes.special_codes[SpecialCodeIndex::VMIN], modes.special_codes[SpecialCodeIndex::VTIME]) = (1, 0);
        let _ = termios::tcsetattr(io::stdin(), OptionalActions::Now, &modes);
    }
}

/// Passes the keys that are pressed to `on_key`, in a thread of its own. `q` is the same as Ctrl-C.
pub fn follow_keyboard(on_key: impl Fn(Key) + Send + 'static) -> io::Result<()> {
    if MODES.lock().unwrap().is_none() {
        return Ok(());
    }
    let follow = move || {
        let mut rest = Rest::None;
        for key in io::stdin().keys() {
            match key {
                Ok(key) if rest.has(key) => {}
                Ok(Key::Char('q' | 'Q')) => drop(low_level::raise(SIGINT)),
                Ok(key) => on_key(key),
                // The terminal is gone.
                Err(error) if error.raw_os_error().is_some() => break,
                // No key that termion knows.
                Err(_) => {}
            }
        }
    };
    thread::Builder::new().name("keyboard".into()).spawn(follow).map(drop)
}

/// What may follow an ESC that came alone: over a slow line a key's escape sequence arrives in pieces, whose letters are
/// no keys.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    None,
    /// `[` or `O`, if it is not the key Esc.
    Begin,
    /// Parameters, and the last letter.
    Parameters,
    /// The last letter.
    Last,
}

impl Rest {
    /// Whether the key is part of a sequence.
    fn has(&mut self, key: Key) -> bool {
        let (is_part, rest) = match (*self, key) {
            (_, Key::Esc) => (true, Self::Begin),
            (Self::Begin, Key::Char('[')) => (true, Self::Parameters),
            (Self::Begin, Key::Char('O')) => (true, Self::Last),
            (Self::Parameters, Key::Char(' '..='?')) => (true, Self::Parameters),
            // Of a function key on a console of Linux.
            (Self::Parameters, Key::Char('[')) => (true, Self::Last),
            (Self::Parameters | Self::Last, Key::Char(_)) => (true, Self::None),
            _ => (false, Self::None),
        };
        *self = rest;
        is_part
    }
}

/// Leaves the alternate screen while the process is stopped by Ctrl-Z, and before Ctrl-\ ends it. In a thread of its
/// own, as a terminal may block. `redraw` is called when the process continues, or the terminal has another size.
pub fn follow_job_control(redraw: impl Fn() + Send + 'static) -> io::Result<()> {
    let Some(mut signals) = SIGNALS.lock().unwrap().take() else { return Ok(()) };
    let follow = move || {
        for signal in signals.forever() {
            match signal {
                // Nobody could continue it. The kernel ignores the signal then, too.
                SIGTSTP if !has_shell() => {}
                SIGTSTP => {
                    // Held until it continues, so that nothing is drawn meanwhile.
                    let _stdout = io::stdout().lock();
                    restore_keyboard();
                    write(LEAVE);
                    let _ = low_level::emulate_default_handler(SIGTSTP);
                    // This stops it again where it continues in the background.
                    set_keyboard();
                    write(ENTER);
                }
                SIGQUIT => {
                    restore_keyboard();
                    write(LEAVE);
                    stderr::finish();
                    let _ = low_level::emulate_default_handler(SIGQUIT);
                }
                SIGWINCH => redraw(),
                // Also after SIGSTOP, which cannot be noticed.
                _ => {
                    set_keyboard();
                    redraw();
                }
            }
        }
    };
    thread::Builder::new().name("job control".into()).spawn(follow).map(drop)
}

/// Whether a process of this session but not of this process group has started this group: a shell with job control.
fn has_shell() -> bool {
    let Some(own) = Process::read("self") else { return false };
    let mut parent = own.parent;
    loop {
        match Process::read(&parent) {
            Some(ancestor) if ancestor.group == own.group => parent = ancestor.parent,
            ancestor => return ancestor.is_some_and(|shell| shell.session == own.session),
        }
    }
}

/// IDs from `/proc`, "0" where the process is in another PID namespace.
struct Process {
    parent: String,
    group: String,
    session: String,
}

impl Process {
    fn read(pid: &str) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // After the name, in parentheses, which may hold anything, and the state.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(1).map(str::to_owned);
        Some(Self { parent: fields.next()?, group: fields.next()?, session: fields.next()? })
    }
}

fn write(bytes: &[u8]) {
    let mut stdout = io::stdout().lock();
    let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keyboard_takes_no_part_of_an_escape_sequence_for_a_key() {
        // With ESC by itself, as termion passes it on where it came alone.
        for (typed, keys) in [
            ("\x1b[Bq", "q"),
            ("\x1b[1;5Bq", "q"),
            ("\x1b[15~q", "q"),
            ("\x1b[[Bq", "q"),
            ("\x1bOQn", "n"),
            ("\x1b\x1b[Bn", "n"),
            // The key Esc.
            ("\x1bq", "q"),
            ("\x1b\x1bn[Ob", "n[Ob"),
        ] {
            let mut rest = Rest::None;
            let key = |c: char| if c == '\x1b' { Key::Esc } else { Key::Char(c) };
            let passed: String = typed.chars().filter(|c| !rest.has(key(*c))).collect();
            assert_eq!(passed, keys, "{typed:?}");
        }
    }
}
