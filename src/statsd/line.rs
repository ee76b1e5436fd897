//! A metric as one line of the statsd protocol.

use crate::metrics::decimal::Decimal;
use crate::naming::name::Parts;

/// Adds the line that gives the gauge this value.
pub fn write_line(line: &mut String, name: Parts, value: Decimal) {
    // Most have nothing after the metric, and even an empty copy takes its time.
    name.path.iter().filter(|piece| !piece.is_empty()).for_each(|piece| line.push_str(piece));
    line.push(':');
    value.write(line);
    line.push_str("|g");
    if !name.tags.is_empty() {
        line.push_str(name.tags);
    }
}
