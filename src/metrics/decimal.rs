//! The values of metrics, as every statsd server keeps them.

use serde::{Serialize, Serializer};

/// 2^53: statsd servers hold numbers as `f64`, and round whole ones from here on.
pub const EXACT: f64 = (1_u64 << 53) as f64;

/// A number that every server keeps as it is: with three decimals, below 2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal {
    whole: i64,
    /// Of the sign of `whole`, unless one of the two is 0.
    thousandths: i64,
}

impl Decimal {
    /// 0.
    pub const ZERO: Self = Self { whole: 0, thousandths: 0 };

    /// The nearest to a value; `None` if it is no number, or too large.
    pub fn of(value: f64) -> Option<Self> {
        if value.is_nan() || value.abs() >= EXACT {
            return None;
        }
        // With integers: baseline processors have no instruction to round. Most values are whole.
        let whole = value as i64;
        if value == whole as f64 {
            return Some(Self { whole, thousandths: 0 });
        }
        let rest = (value - whole as f64) * 1000.0;
        let rest = (rest + 0.5_f64.copysign(rest)) as i64;
        Some(Self { whole: whole + rest / 1000, thousandths: rest % 1000 })
    }

    /// Appends it as the standard library prints it, but faster: that searches for the shortest representation.
    pub fn write(self, line: &mut Vec<u8>) {
        if self < Self::ZERO {
            line.push(b'-');
        }
        match self.whole.unsigned_abs() {
            // Most values.
            digit @ 0..10 => line.push(b'0' + digit as u8),
            whole => line.extend_from_slice(itoa::Buffer::new().format(whole).as_bytes()),
        }
        if self.thousandths != 0 {
            // 1125 for 0.125, to get its leading zeros.
            let mut digits = itoa::Buffer::new();
            let rest = digits.format(1000 + self.thousandths.unsigned_abs());
            line.push(b'.');
            line.extend_from_slice(rest[1..].trim_end_matches('0').as_bytes());
        }
    }
}

/// An integer if it is whole.
impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.thousandths {
            0 => serializer.serialize_i64(self.whole),
            rest => serializer.serialize_f64((self.whole * 1000 + rest) as f64 / 1000.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: f64) -> String {
        let mut text = Vec::new();
        Decimal::of(value).unwrap().write(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn decimal_values() {
        let whole = [0, 12, 95_123_888_014_451, 3_860_020_017_238_112, (1 << 53) - 1];
        for (value, sent) in [
            (7.14159, "7.142"),
            (0.0004, "0"),
            (93418.0616, "93418.062"),
            (99.9996, "100"),
            (-5.0, "-5"),
            (-0.1234, "-0.123"),
            (-0.0004, "0"),
            (-0.0, "0"),
        ]
        .into_iter()
        .map(|(value, sent)| (value, sent.to_owned()))
        .chain(whole.map(|whole: u64| (whole as f64, whole.to_string())))
        {
            assert_eq!(written(value), sent);
        }
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, EXACT, -EXACT, 1.8e19, f64::MAX] {
            assert_eq!(Decimal::of(value), None, "{value}");
        }
    }

    #[test]
    fn decimals_are_written_as_by_the_standard_library() {
        for n in (-5_000..5_000).chain((0..400).map(|n| n * 7_919 + 1_234_567_891)) {
            let value = f64::from(n) / 1000.0;
            assert_eq!(written(value), value.to_string());
            assert_eq!(serde_json::to_string(&Decimal::of(value)).unwrap(), value.to_string());
        }
    }
}
