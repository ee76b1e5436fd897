//! Writes what goes beside the program into a directory: the man page, completions for three shells and the settings
//! file, all from the command line's own words, and the licences of all that is compiled in. A program of its own so
//! that what is shipped does not carry what writes this.

mod licences;
mod manual;
mod settings;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use clap::CommandFactory;
use clap_complete::{Shell, generate_to};
use xenmonitor::cli::options::Options;

const NAME: &str = "xenmonitor";

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (Some(directory), Some(target), None) = (arguments.next(), arguments.next(), arguments.next()) else {
        eprintln!("usage: xenmonitor-papers DIRECTORY TARGET, as target/papers x86_64-unknown-linux-gnu");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory), &target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenmonitor-papers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path, target: &str) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    // Last in time, and the first to be found wrong: a licence that is not allowed leaves no papers.
    let licences = licences::of_the_program(&workspace(), target)?;
    fs::write(directory.join("copyright"), licences.copyright)?;
    fs::write(directory.join("third-party-licences.txt"), licences.texts)?;
    fs::write(directory.join("xenmonitor.8"), manual::page(Options::command())?)?;
    fs::write(directory.join("settings"), settings::file(Options::command())?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Options::command(), NAME, directory)?;
    }
    Ok(())
}

/// The directory of the workspace that this was built from.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
