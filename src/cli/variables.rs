//! The environment variable of each option.

use clap::Arg;

/// Sets the variable of an option, and hides what the help texts say themselves or the footer says of all.
pub fn with_variable(argument: Arg) -> Arg {
    let takes_value = argument.get_action().takes_values();
    let argument = argument.hide_default_value(takes_value);
    match argument.get_long().map(variable_of) {
        Some(variable) => argument.env(variable).hide_env(true),
        None => argument,
    }
}

/// `XENMONITOR_MAX_DATAGRAM` of `--max-datagram`.
pub fn variable_of(option: &str) -> String {
    format!("XENMONITOR_{}", option.trim_start_matches('-').to_uppercase().replace('-', "_"))
}
