//! The environment variable of each option.

/// Lets an option be set by the variable of its name.
pub fn with_variable(argument: clap::Arg) -> clap::Arg {
    match argument.get_long().map(variable_of) {
        Some(variable) => argument.env(variable).hide_env(true),
        None => argument,
    }
}

pub fn variable_of(option: &str) -> String {
    format!("XENMONITOR_{}", option.trim_start_matches('-').to_uppercase().replace('-', "_"))
}
