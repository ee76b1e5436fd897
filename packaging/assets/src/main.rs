//! Generates the files that are installed with the program: the man page, completions for three shells and the
//! settings file, from the definition of the command line; and the licences of everything that is compiled in. A
//! separate program, so that the shipped one does not contain the code that generates them.

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
        eprintln!("usage: xenmonitor-assets DIRECTORY TARGET, for example target/assets x86_64-unknown-linux-gnu");
        return ExitCode::from(2);
    };
    match write(Path::new(&directory), &target) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xenmonitor-assets: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path, target: &str) -> Result<(), Box<dyn Error>> {
    fs::create_dir_all(directory)?;
    let rust_library = licences::rust_library()?;
    if let Some(file) = &rust_library {
        fs::copy(file, directory.join("rust-library.html"))?;
    } else {
        eprintln!("xenmonitor-assets: this Rust has no COPYRIGHT-library.html: leaving rust-library.html out");
    }
    // Before all other files, so that a licence that is not allowed leaves nothing to install.
    let licences = licences::of_program(&workspace(), target, rust_library.is_some())?;
    fs::write(directory.join("copyright"), licences.copyright)?;
    fs::write(directory.join("third-party-licences.txt"), licences.texts)?;
    fs::write(directory.join("xenmonitor.8"), manual::page(Options::command())?)?;
    fs::write(directory.join("settings"), settings::file(Options::command())?)?;
    for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
        generate_to(shell, &mut Options::command(), NAME, directory)?;
    }
    Ok(())
}

/// The root of the workspace that this program was built from.
fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}
