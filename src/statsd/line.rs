//! A metric as one line of the statsd protocol.

use crate::metrics::decimal::Decimal;
use crate::naming::name::Parts;

/// Adds the line that gives the gauge this value.
pub fn write_line(line: &mut String, name: Parts, value: Decimal) {
    line.extend(name.path);
    line.push(':');
    value.write(line);
    line.push_str("|g");
    if !name.tags.is_empty() {
        line.push_str(name.tags);
    }
}
