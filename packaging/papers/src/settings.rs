//! /etc/default/xenmonitor: every option's variable, with its default, commented out.

use std::error::Error;

use clap::{Arg, Command};
use xenmonitor::cli::config::Config;
use xenmonitor::cli::options::Options;

const HEAD: &str = "\
# Settings of the xenmonitor service: a variable for every option of xenmonitor(8) that a service has.
#
# Each line shows the default; one without a value stands for nothing set. Take the # away to set it,
# try it with `(set -a; . /etc/default/xenmonitor; xenmonitor --check)`, and restart the service.
#
# The shell reads this file too, where there is no systemd: values with blanks or any of ; & | < > ( ) $ in
# them need quotes. An empty value counts for nothing. In a list commas part the values.
";
const WIDTH: usize = 100;

/// What looks once or on a terminal, which no service does.
const FOR_PEOPLE: [&str; 7] = ["once", "count", "check", "print", "watch", "sort", "dom0-first"];

/// The file's text.
pub fn file(command: Command) -> Result<String, Box<dyn Error>> {
    let mut text = HEAD.to_owned();
    let mut heading = None;
    for option in command.get_arguments().filter(|option| is_a_services(option)) {
        let Some(variable) = option.get_env() else { continue };
        if option.get_help_heading() != heading {
            heading = option.get_help_heading();
            text += &format!("\n## {}\n", heading.unwrap_or("Other"));
        }
        text.push('\n');
        words(option).split("\n\n").for_each(|paragraph| text += &(comment(paragraph) + "\n"));
        text += &format!("#{}={}\n", variable.to_string_lossy(), default(option)?);
    }
    Ok(text)
}

fn is_a_services(option: &Arg) -> bool {
    option.get_long().is_some_and(|name| !FOR_PEOPLE.contains(&name))
}

/// The option's help, as it holds for a variable.
fn words(option: &Arg) -> String {
    let help = option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default();
    let help = help.replace("Repeatable; commas", "Commas");
    let values = if option.is_hide_possible_values_set() { Vec::new() } else { option.get_possible_values() };
    let values: Vec<&str> = values.iter().map(|value| value.get_name()).collect();
    match (option.get_action().takes_values(), values.is_empty()) {
        (false, _) => format!("{help} (1, or 0)"),
        (true, true) => help,
        (true, false) => format!("{help} [possible values: {}]", values.join(", ")),
    }
}

/// What holds where nothing is set, as the variable would say it; nothing where it cannot be said.
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

/// Lines of comment, broken between words.
fn comment(words: &str) -> String {
    let mut text = String::from("#");
    let mut length = 1;
    for word in words.split_whitespace() {
        if length + 1 + word.len() > WIDTH {
            text += "\n#";
            length = 1;
        }
        text += &format!(" {word}");
        length += 1 + word.len();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;
    use std::collections::BTreeMap;

    #[test]
    fn every_variable_of_a_service_is_in_it_once_with_its_default_and_nothing_else() {
        let text = file(Options::command()).unwrap();
        let mut lines = BTreeMap::new();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with("# ") && *line != "#") {
            let Some((variable, value)) = line.strip_prefix("#XENMONITOR_").and_then(|rest| rest.split_once('='))
            else {
                assert!(line.starts_with("## "), "neither a setting nor words: {line}");
                continue;
            };
            assert_eq!(lines.insert(format!("XENMONITOR_{variable}"), value.to_owned()), None, "twice: {line}");
        }
        for option in Options::command().get_arguments().filter(|option| is_a_services(option)) {
            let Some(variable) = option.get_env() else { continue };
            let value = lines.remove(&*variable.to_string_lossy());
            let value = value.unwrap_or_else(|| panic!("{} is missing", variable.to_string_lossy()));
            // What the help calls the default; in words where there is no value for it.
            let help = option.get_help().unwrap().to_string();
            let said = help.split_once("[default: ").map(|(_, rest)| rest.split([',', ']']).next().unwrap());
            assert!(
                value.is_empty() || value == "0" || said == Some(&value),
                "{}: {value} is not {said:?}",
                variable.to_string_lossy()
            );
        }
        assert_eq!(lines, BTreeMap::new(), "no option has these");
        // And each of the others is an option.
        let others = Options::command().get_arguments().filter(|option| !is_a_services(option)).count();
        assert_eq!(others, FOR_PEOPLE.len());
    }
}
