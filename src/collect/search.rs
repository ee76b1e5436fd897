//! The search for libxenstat.

use std::path::Path;

use crate::collect::release;
use crate::collect::xenstat_error::Error;

/// The library that is named, or else the first of the usual ones that can be opened.
pub fn first_that_opens<T>(
    file: Option<&Path>,
    open: impl Fn(&Path, &'static str) -> Result<T, Error>,
) -> Result<T, Error> {
    if let Some(file) = file {
        return open(file, "as named");
    }
    let (candidates, tried) = release::libraries(release::running());
    let mut unloadable = None;
    for (candidate, why) in candidates {
        match open(&candidate, why) {
            Err(Error::Unloadable(error)) => {
                let absent = format!("{}: cannot open shared object", candidate.display());
                unloadable = unloadable.or((!error.to_string().starts_with(&absent)).then_some(error));
            }
            opened => return opened,
        }
    }
    Err(unloadable.map_or(Error::NotFound { tried }, Error::Unloadable))
}
