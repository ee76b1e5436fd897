//! The values of a scenario: numbers, counters, and sets of polls. No side effects.

use std::ops::Range;

use serde::Deserialize;
use toml::Value;

/// The point at which a counter is read.
#[derive(Clone, Copy)]
pub struct Moment {
    /// Calls of xenstat_get_node before this one, in the life of the process.
    pub poll: u64,
    /// Time since the first xenstat_init, on the shim's clock.
    pub elapsed_ns: u64,
    /// The number of the domain, where one table stands for several (`count`).
    pub index: u64,
}

/// A number (negative ones and "no limit" in two's complement), or one with a unit such as "8G" or "250ms".
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq)]
#[serde(try_from = "Value")]
pub struct Amount(pub u64);

/// A number, or one that changes over time.
#[derive(Deserialize, Clone, Copy, Debug, Default, PartialEq)]
#[serde(try_from = "Value")]
pub struct Counter {
    start: u64,
    per_poll: u64,
    per_second: u64,
    /// The period in ns with which `per_second` rises and falls; 0: it is constant.
    wave: u64,
    per_domain: u64,
    per_poll_per_domain: u64,
}

/// The vcpus of a domain: a number of them that share its cpu_ns, or a list.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
pub enum Vcpus {
    Alike(u32),
    Each(Vec<Vcpu>),
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Vcpu {
    #[serde(default = "online")]
    pub online: bool,
    pub ns: Counter,
}

/// A set of polls: `true`, `3`, `"2..5"`, `"7.."`, `"every 4"`, or a list of these.
#[derive(Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(try_from = "Value")]
pub struct Polls(Vec<When>);

#[derive(Clone, Debug, PartialEq)]
enum When {
    Within(Range<u64>),
    Every(u64),
}

#[derive(Deserialize, Debug)]
#[serde(try_from = "Value")]
pub struct Errno(pub i32);

#[derive(Deserialize)]
#[serde(try_from = "String")]
pub struct Hex(pub Vec<u8>);

impl Counter {
    /// Its value, modulo 2^64 as in the C library.
    pub fn at(&self, now: Moment) -> u64 {
        let per_poll = self.per_poll.wrapping_add(self.per_poll_per_domain.wrapping_mul(now.index));
        let mut value = self.start.wrapping_add(self.per_domain.wrapping_mul(now.index));
        value = value.wrapping_add(per_poll.wrapping_mul(now.poll));
        if self.per_second != 0 {
            let rate = i128::from(self.per_second as i64);
            let ns = i128::from(now.elapsed_ns) + self.ahead_ns(now.elapsed_ns);
            value = value.wrapping_add((rate * ns / 1_000_000_000) as u64);
        }
        value
    }

    /// By how much a wave is ahead of a constant rate: the integral of 0.7 sin(x) + 0.3 sin(3.1x). It never falls as
    /// fast as time advances, so that the counter never decreases. The second term makes each period differ.
    fn ahead_ns(&self, elapsed_ns: u64) -> i128 {
        if self.wave == 0 {
            return 0;
        }
        let radian = self.wave as f64 / std::f64::consts::TAU;
        let x = elapsed_ns as f64 / radian;
        ((0.7 * (1.0 - x.cos()) + 0.3 / 3.1 * (1.0 - (3.1 * x).cos())) * radian) as i128
    }

    pub const fn of(start: u64) -> Counter {
        Counter::rising(start, 0)
    }

    pub const fn rising(start: u64, per_second: u64) -> Counter {
        Counter { start, per_poll: 0, per_second, wave: 0, per_domain: 0, per_poll_per_domain: 0 }
    }
}

impl Vcpus {
    pub fn count(&self) -> u32 {
        match self {
            Vcpus::Alike(count) => *count,
            Vcpus::Each(list) => list.len() as u32,
        }
    }
}

impl Polls {
    pub fn all() -> Polls {
        Polls(vec![When::Within(0..u64::MAX)])
    }

    pub fn contains(&self, poll: u64) -> bool {
        self.0.iter().any(|when| match when {
            When::Within(range) => range.contains(&poll),
            When::Every(step) => poll > 0 && poll % step == 0,
        })
    }
}

fn online() -> bool {
    true
}

// How each is written in the scenario file.

impl TryFrom<Value> for Amount {
    type Error = String;

    fn try_from(value: Value) -> Result<Amount, String> {
        const UNITS: [(&str, i128); 10] = [
            ("K", 1 << 10),
            ("M", 1 << 20),
            ("G", 1 << 30),
            ("T", 1 << 40),
            ("ns", 1),
            ("us", 1_000),
            ("ms", 1_000_000),
            ("s", 1_000_000_000),
            ("h", 3_600_000_000_000),
            ("", 1),
        ];
        let amount = match &value {
            Value::Integer(number) => Some(i128::from(*number)),
            Value::String(text) if text == "no limit" => Some(u64::MAX.into()),
            Value::String(text) => {
                let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
                let number = number.trim().replace('_', "").parse().ok();
                let unit = UNITS.iter().find(|(name, _)| *name == unit);
                unit.zip(number).and_then(|((_, factor), number): (_, i128)| number.checked_mul(*factor))
            }
            _ => None,
        };
        match amount {
            Some(amount) if (i64::MIN.into()..=u64::MAX.into()).contains(&amount) => Ok(Amount(amount as u64)),
            _ => Err(format!("{value} is no number, and none with one of the units K M G T ns us ms s h")),
        }
    }
}

impl TryFrom<Value> for Counter {
    type Error = String;

    fn try_from(value: Value) -> Result<Counter, String> {
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields, default)]
        struct Moving {
            start: Amount,
            per_poll: Amount,
            per_second: Amount,
            wave: Amount,
            per_domain: Amount,
            per_poll_per_domain: Amount,
        }
        let Value::Table(table) = value else {
            return Amount::try_from(value).map(|amount| Counter::of(amount.0));
        };
        let moving: Moving = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        Ok(Counter {
            start: moving.start.0,
            per_poll: moving.per_poll.0,
            per_second: moving.per_second.0,
            wave: moving.wave.0,
            per_domain: moving.per_domain.0,
            per_poll_per_domain: moving.per_poll_per_domain.0,
        })
    }
}

impl TryFrom<Value> for Vcpus {
    type Error = String;

    fn try_from(value: Value) -> Result<Vcpus, String> {
        match value {
            Value::Integer(count @ 0..=4096) => Ok(Vcpus::Alike(count as u32)),
            Value::Array(_) => value.try_into().map(Vcpus::Each).map_err(|error| error.message().to_owned()),
            _ => Err("vcpus is a count up to 4096, or a list of { online, ns }".into()),
        }
    }
}

impl TryFrom<Value> for Polls {
    type Error = String;

    fn try_from(value: Value) -> Result<Polls, String> {
        let when = match &value {
            Value::Boolean(false) => return Ok(Polls::default()),
            Value::Boolean(true) => return Ok(Polls::all()),
            Value::Integer(poll @ 0..) => Some(When::Within(*poll as u64..*poll as u64 + 1)),
            Value::String(text) => match (text.strip_prefix("every "), text.split_once("..")) {
                (Some(step), _) => step.parse().ok().filter(|step| *step > 0).map(When::Every),
                (_, Some((from, ""))) => from.parse().ok().map(|from| When::Within(from..u64::MAX)),
                (_, Some((from, until))) => {
                    from.parse().ok().zip(until.parse().ok()).map(|(from, until)| When::Within(from..until))
                }
                _ => None,
            },
            Value::Array(list) => {
                let parts: Result<Vec<_>, _> = list.iter().cloned().map(Polls::try_from).collect();
                return Ok(Polls(parts?.into_iter().flat_map(|polls| polls.0).collect()));
            }
            _ => None,
        };
        let wrong = || format!("{value} names no polls; true, 3, \"2..5\", \"7..\", \"every 4\" or a list do");
        when.map(|when| Polls(vec![when])).ok_or_else(wrong)
    }
}

impl TryFrom<Value> for Errno {
    type Error = String;

    fn try_from(value: Value) -> Result<Errno, String> {
        match value.as_str() {
            Some("EPERM") => Ok(libc::EPERM),
            Some("ENOENT") => Ok(libc::ENOENT),
            Some("EIO") => Ok(libc::EIO),
            Some("ENOMEM") => Ok(libc::ENOMEM),
            Some("EACCES") => Ok(libc::EACCES),
            Some("EBUSY") => Ok(libc::EBUSY),
            Some("EINVAL") => Ok(libc::EINVAL),
            Some("ENOSYS") => Ok(libc::ENOSYS),
            _ => match value.as_integer() {
                Some(number @ 0..=4095) => Ok(number as i32),
                _ => Err(format!("{value} is no errno; give its number")),
            },
        }
        .map(Errno)
    }
}

impl TryFrom<String> for Hex {
    type Error = String;

    fn try_from(text: String) -> Result<Hex, String> {
        let digits: Vec<u32> = text.chars().filter(|c| *c != ' ').map_while(|c| c.to_digit(16)).collect();
        if digits.len() % 2 != 0 || digits.len() != text.replace(' ', "").len() {
            return Err(format!("\"{text}\" is not hexadecimal, two digits a byte"));
        }
        Ok(Hex(digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()))
    }
}
