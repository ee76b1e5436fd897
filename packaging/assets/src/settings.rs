//! The settings file, /etc/default/xenmonitor: the variable of each option with its default, commented out.

use std::error::Error;

use clap::{Arg, Command};
use xenmonitor::cli::config::Config;
use xenmonitor::cli::options::Options;

const HEAD: &str = "\
# Settings of the xenmonitor service: one variable for each option of xenmonitor(8) that applies to a service.
#
# Each line shows the default; a line without a value means that nothing is set. To change a setting,
# remove the # and edit the value, check with `(set -a; . /etc/default/xenmonitor; xenmonitor --check)`,
# and restart the service.
#
# Without systemd the shell reads this file: quote values with spaces or any of ; & | < > ( ) $ in them.
# An empty value is ignored. Values of a list are separated by commas.
";
const WIDTH: usize = 100;

/// Options for single runs and for a terminal, which do not apply to a service.
const NOT_FOR_SERVICES: [&str; 7] = ["once", "count", "check", "print", "watch", "sort", "dom0-first"];

/// The text of the file.
pub fn file(command: Command) -> Result<String, Box<dyn Error>> {
    let mut text = HEAD.to_owned();
    let mut heading = None;
    for option in command.get_arguments().filter(|option| is_for_services(option)) {
        let Some(variable) = option.get_env() else { continue };
        if option.get_help_heading() != heading {
            heading = option.get_help_heading();
            text += &format!("\n## {}\n", heading.unwrap_or("Other"));
        }
        let help = help(option);
        text += &format!("\n{}\n#{}={}\n", comment(&help), variable.to_string_lossy(), default(option)?);
    }
    Ok(text)
}

fn is_for_services(option: &Arg) -> bool {
    option.get_long().is_some_and(|name| !NOT_FOR_SERVICES.contains(&name))
}

/// The help text of the option, adapted to a variable.
fn help(option: &Arg) -> String {
    let help = option.get_help().map(ToString::to_string).unwrap_or_default();
    let help = help.replace("may be given several times", "a list");
    let values = if option.is_hide_possible_values_set() { Vec::new() } else { option.get_possible_values() };
    let values: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
    match (option.get_action().takes_values(), values.is_empty()) {
        (false, _) => format!("{help} (1, or 0)"),
        (true, true) => help,
        (true, false) => format!("{help} [possible values: {}]", values.join(", ")),
    }
}

/// The default as a value of the variable; empty if there is no such value.
fn default(option: &Arg) -> Result<String, Box<dyn Error>> {
    if !option.get_action().takes_values() {
        return Ok("0".into());
    }
    if option.get_long() == Some("statsd") {
        let unset = Config::resolve(Options::read(["xenmonitor"], |_| None)?, |_| None)?;
        return Ok(unset.statsd.destinations.iter().map(ToString::to_string).collect::<Vec<_>>().join(","));
    }
    let values: Vec<_> = option.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    Ok(values.join(","))
}

/// Wraps a text into comment lines.
fn comment(text: &str) -> String {
    let mut lines = String::from("#");
    let mut length = 1;
    for word in text.split_whitespace() {
        if length + 1 + word.len() > WIDTH {
            lines += "\n#";
            length = 1;
        }
        lines += &format!(" {word}");
        length += 1 + word.len();
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeMap;

    #[test]
    fn settings_have_each_variable_of_a_service_once_with_its_default() {
        let text = file(Options::command()).unwrap();
        let mut lines = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#") {
            let Some((variable, value)) = line.strip_prefix("#XENMONITOR_").and_then(|rest| rest.split_once('='))
            else {
                assert!(line.starts_with("## "), "neither a setting nor a comment: {line}");
                continue;
            };
            assert_eq!(lines.insert(format!("XENMONITOR_{variable}"), value.to_owned()), None, "twice: {line}");
        }
        for option in Options::command().get_arguments().filter(|option| is_for_services(option)) {
            let Some(variable) = option.get_env() else { continue };
            let value = lines.remove(&*variable.to_string_lossy());
            let value = value.unwrap_or_else(|| panic!("{} is missing", variable.to_string_lossy()));
            // The help states the same default, or describes it if it is not a value.
            let help = option.get_help().unwrap().to_string();
            let said = help.split_once("[default: ").map(|(_, rest)| rest.split([',', ';', ']']).next().unwrap());
            assert!(
                value.is_empty() || value == "0" || said == Some(&value),
                "{}: {value} is not {said:?}",
                variable.to_string_lossy()
            );
        }
        assert_eq!(lines, BTreeMap::new(), "no option has these");
        // Each excluded name is an option.
        let excluded = Options::command().get_arguments().filter(|option| !is_for_services(option)).count();
        assert_eq!(excluded, NOT_FOR_SERVICES.len());
    }
}
