//! The page that `--watch` shows: heading, status, table and legend, cut to the size of the terminal.

use std::cmp::Reverse;
use std::collections::HashMap;

use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use unicode_width::UnicodeWidthStr;

use crate::metrics::DOMAIN;
use crate::metrics::delta::{Devices, Sample};
use crate::metrics::devices::{self, Detail, DetailSink, DetailValue};
use crate::model::device::{DeviceId, DeviceKind};
use crate::model::snapshot::State;
use crate::model::text::printable;
use crate::report::table::{cell, letters};
use crate::report::watch::columns::{Column, Columns, bytes};
use crate::report::watch::view::{LEGEND, View};

/// Names are cut to this; the longest there can be would leave no columns for numbers.
const MAX_NAME_WIDTH: usize = 32;

/// The least room for a name.
const MIN_NAME_WIDTH: usize = 10;

/// A narrower screen has no room for STATE.
const NARROW: usize = 30;

/// Lines that are not part of the table: status, header, legend.
const OTHER_LINES: usize = 3;

/// The least lines of the table for which the heading is left out.
const MIN_LINES: usize = 3;

/// What is known of the host.
#[derive(Default)]
pub struct Content {
    /// A summary of the host.
    pub heading: Vec<String>,
    /// Its domains, in any order.
    pub domains: Vec<Domain>,
    /// There has been no poll since.
    pub is_outdated: bool,
    /// The latest line of the log, if it is new, and how many polls have been shown since.
    message: Option<(String, u32)>,
}

impl Content {
    /// Another line was logged.
    pub fn set_message(&mut self, line: String) {
        self.message = Some((line, 0));
    }

    /// A poll is shown. The line stays until the next but one, so that there is time to read it.
    pub fn age_message(&mut self) {
        self.message = self.message.take().filter(|(_, polls)| *polls == 0).map(|(line, polls)| (line, polls + 1));
    }
}

/// A domain at one poll.
pub struct Domain {
    id: u32,
    name: String,
    /// For sorting, as case is ignored.
    lower_name: String,
    /// Cells that the name takes.
    name_width: usize,
    state: State,
    values: HashMap<&'static str, f64>,
    devices: Vec<Device>,
}

struct Device {
    id: DeviceId,
    values: Vec<(&'static str, f64)>,
}

/// Whether the terminal shows colours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Palette {
    /// It does.
    Colours,
    /// It does not, or its user does not want them.
    Plain,
}

impl Domain {
    /// All values of the sample. `devices` is a buffer.
    pub fn new(sample: &Sample, devices: &mut Devices) -> Self {
        let domain = sample.domain;
        let metrics = DOMAIN.iter().filter_map(|row| Some((row.metric.name, row.metric.of(sample)?)));
        let name = printable(&domain.name);
        let mut this = Self {
            id: domain.id,
            lower_name: name.to_ascii_lowercase(),
            name_width: width(&name),
            name,
            state: domain.state,
            values: metrics.collect(),
            devices: Vec::new(),
        };
        devices.pair(sample);
        devices::values(sample, devices, &[Detail::All], &mut this);
        this
    }
}

impl DetailSink for Domain {
    fn take(&mut self, device: Option<DeviceId>, values: impl Iterator<Item = DetailValue>) {
        let values = values.map(|detail| (detail.metric, detail.value));
        match device {
            None => self.values.extend(values),
            Some(id) => self.devices.push(Device { id, values: values.collect() }),
        }
    }
}

impl Palette {
    fn of(self, state: State) -> Style {
        match state {
            _ if self == Self::Plain => Style::new(),
            State { crashed: true, .. } | State { dying: true, .. } => Style::new().fg(Color::Red),
            State { paused: true, .. } | State { shutdown: true, .. } => Style::new().fg(Color::Yellow),
            State { running: true, .. } => Style::new().fg(Color::Green),
            _ => Style::new(),
        }
    }
}

/// The lines of the screen. What `view` has scrolled too far is put right in it.
pub fn page(
    view: &mut View,
    columns: &Columns,
    content: &Content,
    palette: Palette,
    (width, height): (usize, usize),
) -> Text<'static> {
    let mut domains: Vec<&Domain> = content.domains.iter().collect();
    domains.sort_by_cached_key(|domain| {
        let first = view.dom0_first && domain.id == 0;
        let value = view.sort.and_then(|metric| domain.values.get(metric));
        // Values are finite and not negative, and so in the order of their bits.
        (!first, Reverse(value.map(|value| value.to_bits())), &*domain.lower_name)
    });

    let heading = content.heading.len().min(height.saturating_sub(OTHER_LINES + MIN_LINES));
    view.page = height.saturating_sub(heading + OTHER_LINES);
    let devices: Vec<Vec<String>> = domains.iter().map(|domain| device_lines(domain, &view.kinds, width)).collect();
    let lines = domains.len() + devices.iter().map(Vec::len).sum::<usize>();
    view.last_line = lines.saturating_sub(view.page);
    view.first_line = view.first_line.min(view.last_line);
    let shown = columns.shown(view.shows_counters);
    view.first_column = view.first_column.min(shown.len().saturating_sub(1));

    let has_state = columns.has_state && width >= NARROW;
    let longest = domains.iter().map(|domain| domain.name_width).max().unwrap_or_default();
    let name_width = longest.clamp(MIN_NAME_WIDTH, MAX_NAME_WIDTH.min(width / 3).max(MIN_NAME_WIDTH));
    let fixed = name_width + if has_state { 7 } else { 0 };
    let fitting = fitting(&shown[view.first_column..], &domains, width.saturating_sub(fixed));

    let mut page: Vec<Line> = content.heading[..heading].iter().cloned().map(Line::raw).collect();
    page.push(status(view, content, palette, shown, fitting.len(), domains.len(), lines));
    page.push(header(view, has_state, &fitting, name_width));
    let table = domains.iter().zip(devices).flat_map(|(domain, devices)| {
        std::iter::once(TableLine::Domain(domain)).chain(devices.into_iter().map(TableLine::Device))
    });
    page.extend(table.skip(view.first_line).take(view.page).map(|line| match line {
        TableLine::Domain(domain) => {
            Line::styled(row(domain, has_state, &fitting, name_width), palette.of(domain.state))
        }
        TableLine::Device(text) => Line::raw(text),
    }));
    page.resize_with(height.saturating_sub(1), Line::default);
    page.push(legend());
    Text::from(page)
}

enum TableLine<'a> {
    Domain(&'a Domain),
    Device(String),
}

/// As many of the columns as fit, each with its width.
fn fitting<'a>(columns: &'a [Column], domains: &[&Domain], mut room: usize) -> Vec<(&'a Column, usize)> {
    let widest = |column: &Column| {
        // The largest value has the longest text, or one that is not wider than the column anyway.
        let values = domains.iter().filter_map(|domain| domain.values.get(column.metric));
        column.format.text(values.copied().fold(0.0, f64::max)).len()
    };
    let widths = columns.iter().map(|column| (column, column.width.max(widest(column))));
    let fits = |(_, width): &(_, usize)| {
        let fits = *width < room;
        room = room.saturating_sub(width + 1);
        fits
    };
    widths.take_while(fits).collect()
}

/// Which part of the table is shown, or what was logged.
fn status(
    view: &View,
    content: &Content,
    palette: Palette,
    columns: &[Column],
    shown: usize,
    domains: usize,
    lines: usize,
) -> Line<'static> {
    let mut parts = Vec::new();
    if view.is_paused {
        parts.push("PAUSED".to_owned());
    }
    if content.is_outdated {
        parts.push("NOT UPDATED".to_owned());
    }
    if let Some((message, _)) = &content.message {
        parts.push(message.clone());
        let colour = if palette == Palette::Colours { Style::new().fg(Color::Yellow) } else { Style::new() };
        return Line::styled(parts.join("; "), colour);
    }
    let by = view.sort.map_or("name", |sort| columns.iter().find(|c| c.metric == sort).map_or(sort, |c| c.header));
    parts.push(format!("by {by}"));
    if lines > view.page {
        let unit = if lines == domains { "domains" } else { "lines" };
        let last = (view.first_line + view.page).min(lines);
        parts.push(format!("{unit} {}-{last} of {lines}", view.first_line + 1));
    }
    if shown < columns.len() {
        let first = view.first_column;
        parts.push(format!("columns {}-{} of {}", first + 1, first + shown, columns.len()));
    }
    parts.push(if view.shows_counters { "totals, as in xentop" } else { "K = 1024 bytes" }.to_owned());
    Line::raw(parts.join("; "))
}

fn header(view: &View, has_state: bool, fitting: &[(&Column, usize)], name_width: usize) -> Line<'static> {
    let style = Style::new().add_modifier(Modifier::REVERSED);
    // The column that the table is sorted by stands out.
    let style_of =
        |metric| if view.sort == metric { style.add_modifier(Modifier::BOLD | Modifier::UNDERLINED) } else { style };
    let mut name = String::new();
    cell(&mut name, "NAME", name_width);
    let mut spans = vec![Span::styled(name, style_of(None))];
    if has_state {
        spans.push(Span::styled("  STATE", style));
    }
    for (column, width) in fitting {
        let mut title = String::new();
        cell(&mut title, column.header, *width);
        spans.extend([Span::styled(" ", style), Span::styled(title, style_of(Some(column.metric)))]);
    }
    Line::from(spans)
}

fn row(domain: &Domain, has_state: bool, fitting: &[(&Column, usize)], name_width: usize) -> String {
    let name = cut(&domain.name, name_width);
    let mut text = " ".repeat(name_width.saturating_sub(width(&name)));
    text.push_str(&name);
    if has_state {
        text.push(' ');
        text.push_str(&letters(domain.state));
    }
    for (column, width) in fitting {
        text.push(' ');
        let value = domain.values.get(column.metric).map(|value| column.format.text(*value));
        cell(&mut text, value.as_deref().unwrap_or(column.missing), *width);
    }
    text
}

/// The devices of these kinds with their values, in as many lines as they need.
fn device_lines(domain: &Domain, kinds: &[DeviceKind], width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for device in domain.devices.iter().filter(|device| kinds.contains(&device.id.kind)) {
        let mut has_value = false;
        let mut line = format!("    {} {}", device.id.kind.as_str(), device.id.name());
        for (metric, value) in &device.values {
            let value = if metric.ends_with("_bytes") { bytes(*value) } else { decimal(*value) };
            let part = format!("  {metric} {value}");
            if line.len() + part.len() > width && has_value {
                lines.push(std::mem::replace(&mut line, " ".repeat(6)));
            }
            line += &part;
            has_value = true;
        }
        lines.push(line);
    }
    lines
}

fn decimal(value: f64) -> String {
    if value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn legend() -> Line<'static> {
    let mut spans = Vec::new();
    for (key, meaning) in LEGEND {
        spans.push(Span::styled(key, Style::new().add_modifier(Modifier::BOLD)));
        spans.push(Span::raw(format!(" {meaning}  ")));
    }
    Line::from(spans)
}

/// The cells that ratatui gives a text: those of its graphemes. As a whole it may be narrower, as some letters of Arabic
/// are that follow one another.
fn width(text: &str) -> usize {
    Span::raw(text).styled_graphemes(Style::new()).map(|grapheme| grapheme.symbol.width()).sum()
}

/// The name in at most so many cells of a terminal.
fn cut(name: &str, longest: usize) -> String {
    if width(name) <= longest {
        return name.to_owned();
    }
    let mut ends = name.char_indices().map(|(start, c)| start + c.len_utf8());
    let kept = ends.by_ref().take_while(|&end| width(&name[..end]) + 2 <= longest).last().unwrap_or_default();
    format!("{}..", &name[..kept])
}

#[cfg(test)]
mod tests {
    use super::*;

    // tests/it/watch.rs looks at whole pages.

    #[test]
    fn watch_cuts_long_names() {
        for (name, shown) in [("abcdef", "abcdef"), ("abcdefg", "abcd.."), ("z\u{fc}rich", "z\u{fc}rich"), ("", "")] {
            assert_eq!(cut(name, 6), shown);
        }
        for (name, shown) in [
            ("\u{6771}\u{4eac}a", "\u{6771}\u{4eac}a"),
            ("\u{6771}\u{4eac}\u{6771}", "\u{6771}\u{4eac}\u{6771}"),
            // Four characters, but eight cells.
            ("\u{6771}\u{4eac}\u{6771}\u{4eac}", "\u{6771}\u{4eac}.."),
            ("a\u{6771}\u{4eac}\u{6771}", "a\u{6771}.."),
            // Eight characters, but six cells.
            ("abcde\u{301}\u{301}f", "abcde\u{301}\u{301}f"),
            // Three ligatures: three cells as a whole.
            ("\u{644}\u{627}\u{644}\u{627}\u{644}\u{627}", "\u{644}\u{627}\u{644}\u{627}\u{644}\u{627}"),
            ("\u{644}\u{627}\u{644}\u{627}\u{644}\u{627}a", "\u{644}\u{627}\u{644}\u{627}.."),
        ] {
            assert_eq!(cut(name, 6), shown);
        }
        assert_eq!(cut("abcdefg", usize::MAX), "abcdefg");
    }

    #[test]
    fn watch_wraps_the_values_of_a_device() {
        let id = DeviceId::new(DeviceKind::Vif, 0);
        let values = vec![("rx_bytes", 1536.0), ("rx_packets", 12.0), ("cpu_percent", 1.25)];
        let devices = vec![Device { id, values }];
        let (state, name) = (State::default(), String::new());
        let (lower_name, name_width) = (name.clone(), 0);
        let domain = Domain { id: 1, name, lower_name, name_width, state, values: HashMap::new(), devices };
        let whole = "    vif 0  rx_bytes 1.5K  rx_packets 12  cpu_percent 1.2";
        for (width, lines) in [
            (whole.len(), &[whole][..]),
            (whole.len() - 1, &["    vif 0  rx_bytes 1.5K  rx_packets 12", "        cpu_percent 1.2"]),
            // Each line has a value, however narrow.
            (5, &["    vif 0  rx_bytes 1.5K", "        rx_packets 12", "        cpu_percent 1.2"]),
        ] {
            assert_eq!(device_lines(&domain, &[DeviceKind::Vif], width), lines, "{width}");
        }
        assert!(device_lines(&domain, &[DeviceKind::Vbd], 80).is_empty());
    }
}
