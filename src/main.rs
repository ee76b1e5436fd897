//! `xenmonitor`: options, privileges, logger, daemon, exit code.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use env_logger::Target;
use log::{Level, warn};
use xenmonitor::cli::config::Config;
use xenmonitor::cli::options::Options;
use xenmonitor::cli::usage_error;
use xenmonitor::cli::values::LogFilter;
use xenmonitor::daemon::alternate_screen::AlternateScreen;
use xenmonitor::daemon::failure::Failure;
use xenmonitor::daemon::privileges;
use xenmonitor::daemon::{CaughtSignals, Daemon};
use xenmonitor::logging::stderr::{self, Stderr};
use xenmonitor::model::text::is_invisible;

const USAGE_ERROR: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let options = match Options::read(&arguments, |name| env::var_os(name)) {
        Ok(options) => options,
        Err(error) if usage_error::is_help(&error) => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return fail(io::stderr(), &usage_error::one_line(&error, &arguments), USAGE_ERROR),
    };
    let config = match Config::resolve(options, |name| env::var_os(name)) {
        Ok(config) => config,
        Err(error) => return fail(io::stderr(), &error.to_string(), USAGE_ERROR),
    };
    let not_dropped = if config.keep_privileges { Vec::new() } else { privileges::drop_all() };
    let signals = if config.check { Ok(None) } else { CaughtSignals::catch().map(Some) };
    let (stderr, signals) = match signals.and_then(|signals| Ok((Stderr::start()?, signals))) {
        Ok(started) => started,
        Err(error) => {
            let failure = Failure::Start(error);
            return fail(io::stderr(), &failure.to_string(), failure.exit_code());
        }
    };
    let screen = if config.report.table.watch && !config.check { AlternateScreen::open() } else { None };
    if screen.is_some() && io::stderr().is_terminal() {
        stderr.hold();
    }
    start_logger(&config.log, stderr.clone());
    not_dropped.iter().chain(&config.warnings).for_each(|line| warn!("{line}"));
    for name in Options::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        warn!("ignoring unknown environment variable {name} (see --help)");
    }
    let result = Daemon::new(config).and_then(|daemon| match signals {
        Some(signals) => daemon.run(signals),
        None => daemon.check(),
    });
    let exit_code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => fail(stderr.clone(), &failure.to_string(), failure.exit_code()),
    };
    drop(screen);
    stderr::finish();
    exit_code
}

/// Prints the reason on one line. Not through the logger, so that `--log off` does not hide it.
fn fail(mut stderr: impl Write, reason: &str, exit_code: u8) -> ExitCode {
    let priority = if stderr_is_journald() { "<3>" } else { "" };
    let reason = one_line(reason);
    // A closed stderr is no reason to panic.
    let _ = stderr.write_all(format!("{priority}xenmonitor: {reason}\n").as_bytes());
    ExitCode::from(exit_code)
}

/// Escapes control and invisible characters. Arguments and variables may hold any.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if is_invisible(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// One line per message, with a timestamp; for journald, which adds its own, with a priority instead.
fn start_logger(filter: &LogFilter, stderr: Stderr) {
    let journald = stderr_is_journald();
    let mut builder = env_logger::Builder::new();
    builder.filter_level(filter.level);
    for (module, level) in &filter.modules {
        builder.filter_module(module, *level);
    }
    builder
        .target(Target::Pipe(Box::new(stderr)))
        .format(move |out, record| {
            let message = one_line(&record.args().to_string());
            if journald {
                let priority = match record.level() {
                    Level::Error => 3,
                    Level::Warn => 4,
                    Level::Info => 6,
                    Level::Debug | Level::Trace => 7,
                };
                writeln!(out, "<{priority}>{message}")
            } else {
                writeln!(out, "{} {:5} {message}", out.timestamp_millis(), record.level())
            }
        })
        .init();
}

/// systemd sets JOURNAL_STREAM to the device and inode of the journal's stream.
fn stderr_is_journald() -> bool {
    let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}
