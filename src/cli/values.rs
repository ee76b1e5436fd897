//! The values of options, read from what was typed; what is wrong with one is told in a few words.

use std::time::Duration;

use glob::Pattern;

/// How many polls.
pub fn count(text: &str) -> Result<u64, &'static str> {
    text.parse().ok().filter(|&count| count > 0).ok_or("not a number of polls, which is 1 or more")
}

/// How large datagrams may be.
pub fn max_datagram(text: &str) -> Result<u16, &'static str> {
    text.parse().ok().filter(|bytes| (512..=8932).contains(bytes)).ok_or("not a number of bytes from 512 to 8932")
}

/// A span of time; a bare number counts seconds.
pub fn time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    time.ok_or_else(|| "not a time: write it like 500ms, 10s or 1m".into())
}

/// A span of time from `least` to `most`, both written as it is.
pub fn time_within(least: &'static str, most: &'static str) -> impl Fn(&str) -> Result<Duration, String> + Clone {
    move |text: &str| match time(text)? {
        short if short < time(least)? => Err(format!("too short: at least {least}")),
        long if long > time(most)? => Err(format!("too long: at most {most}")),
        time => Ok(time),
    }
}

/// A pattern of names, as shells have them.
pub fn pattern(text: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|bad| {
        let hint = if text.contains('[') { "; to fit a [ write [[]" } else { "" };
        format!("not a pattern: {}{hint}", bad.msg)
    })
}

/// A part of the interval.
pub fn spread(text: &str) -> Result<f64, &'static str> {
    text.parse().ok().filter(|part| (0.0..=0.9).contains(part)).ok_or("not a part of the interval from 0 to 0.9")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let interval = time_within("10ms", "1d");
        for (text, milliseconds) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("1m", 60_000),
            ("2", 2000),
            ("0.5", 500),
            ("1m 30s", 90_000),
            ("10ms", 10),
            ("1d", 86_400_000),
        ] {
            assert_eq!(interval(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["0", "0s", "9ms", "86401", "2d", "", "-1s", "-1", "nan", "inf", "ten", "10 parsecs"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
