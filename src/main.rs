//! `xenmonitor`: arguments, logger, the loop, the exit status. See the library's rooms for the rest.

use std::env;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::process::ExitCode;

use clap::error::ErrorKind;
use env_logger::Target;
use log::{Level, warn};
use xenmonitor::cli::config::Config;
use xenmonitor::cli::options::Options;
use xenmonitor::cli::usage_error::one_line as usage_error;
use xenmonitor::cli::values::LogFilter;
use xenmonitor::daemon::Monitor;
use xenmonitor::daemon::alternate_screen::Page;
use xenmonitor::daemon::failure::Failure;
use xenmonitor::daemon::privileges;
use xenmonitor::logging::stderr::Stderr;

const BAD_COMMAND_LINE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let options = match Options::read(&arguments, |name| env::var_os(name)) {
        Ok(options) => options,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
        Err(error) => return complain(io::stderr(), &usage_error(&error, &arguments), BAD_COMMAND_LINE),
    };
    let config = match Config::resolve(options, |name| env::var_os(name)) {
        Ok(config) => config,
        Err(error) => return complain(io::stderr(), &error.to_string(), BAD_COMMAND_LINE),
    };
    let kept = if config.keep_privileges { Vec::new() } else { privileges::give_up() };
    let stderr = match Stderr::start() {
        Ok(stderr) => stderr,
        Err(error) => {
            let failure = Failure::Start(error);
            return complain(io::stderr(), &failure.to_string(), failure.status());
        }
    };
    let page = if config.report.table.watch && !config.check { Page::open() } else { None };
    if page.is_some() && io::stderr().is_terminal() {
        stderr.repeat_at_end();
    }
    start_logger(&config.log, stderr.clone());
    kept.iter().chain(&config.warnings).for_each(|line| warn!("{line}"));
    for name in Options::unknown_variables(env::vars_os().map(|(name, _)| name)) {
        warn!("ignoring unknown environment variable {name} (see --help)");
    }
    let check = config.check;
    let monitor = Monitor::new(config);
    let status = match if check { monitor.check() } else { monitor.run() } {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => complain(stderr.clone(), &failure.to_string(), failure.status()),
    };
    drop(page);
    stderr.finish();
    status
}

/// The one line that says why. Not by the logger: it is said whatever `--log` says.
fn complain(mut stderr: impl Write, what: &str, status: u8) -> ExitCode {
    let priority = if stderr_is_journald() { "<3>" } else { "" };
    let what = one_line(what);
    // A closed stderr is no reason to panic.
    let _ = stderr.write_all(format!("{priority}xenmonitor: {what}\n").as_bytes());
    ExitCode::from(status)
}

/// Whatever was typed or is in a variable.
fn one_line(text: &str) -> String {
    text.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect()
}

/// One line a message: with a time for people, with a priority and no time for journald, which has its own.
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
            let words = one_line(&record.args().to_string());
            if journald {
                let priority = match record.level() {
                    Level::Error => 3,
                    Level::Warn => 4,
                    Level::Info => 6,
                    Level::Debug | Level::Trace => 7,
                };
                writeln!(out, "<{priority}>{words}")
            } else {
                writeln!(out, "{} {:5} {words}", out.timestamp_millis(), record.level())
            }
        })
        .init();
}

/// systemd names the device and inode of the journal's stream in JOURNAL_STREAM.
fn stderr_is_journald() -> bool {
    let stream = env::var("JOURNAL_STREAM").unwrap_or_default();
    let stderr = std::fs::metadata("/proc/self/fd/2");
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}
