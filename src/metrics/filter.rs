//! Which domains and metrics are reported: `--include` and `--exclude`, `--metrics` and `--no-metrics`.

use glob::Pattern;

use crate::metrics::devices::Detail;
use crate::metrics::selectable;
use crate::naming::scheme::Layout;

/// Globs on raw domain names and on metrics.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    include: Vec<Pattern>,
    exclude: Vec<Pattern>,
    metrics: Vec<Pattern>,
    no_metrics: Vec<Pattern>,
}

impl Filter {
    /// The four lists of patterns.
    pub fn new(include: &[Pattern], exclude: &[Pattern], metrics: &[Pattern], no_metrics: &[Pattern]) -> Self {
        let [include, exclude, metrics, no_metrics] = [include, exclude, metrics, no_metrics].map(<[_]>::to_vec);
        Self { include, exclude, metrics, no_metrics }
    }

    /// Whether a domain passes, by its raw name; bytes that are not UTF-8 match as U+FFFD.
    pub fn domain(&self, raw: &[u8]) -> bool {
        passes(&self.include, &self.exclude, &String::from_utf8_lossy(raw))
    }

    /// Whether a metric passes, by the parts of its name: `cpu_percent`, or `node` and `cpus`, or `vbd`, `xvda` and
    /// `rd`. `joined` is a buffer.
    pub fn metric(&self, parts: &[&str], joined: &mut String) -> bool {
        if self.metrics.is_empty() && self.no_metrics.is_empty() {
            return true;
        }
        joined.clear();
        for part in parts {
            let dot = if joined.is_empty() { "" } else { "." };
            joined.extend([dot, part]);
        }
        passes(&self.metrics, &self.no_metrics, joined)
    }

    /// One warning for each pattern that matches no domain, or no metric that this configuration sends.
    pub fn unmatched(&self, names: &[&[u8]], layout: Layout, details: &[Detail]) -> Vec<String> {
        let names: Vec<_> = names.iter().map(|name| String::from_utf8_lossy(name)).collect();
        let metrics = selectable(layout, details);
        let matches_domain = |pattern: &Pattern| names.iter().any(|name| pattern.matches(name));
        let matches_metric = |pattern: &Pattern| metrics.iter().any(|metric| pattern.matches(metric));
        let mut warnings = Vec::new();
        for (option, patterns) in [("--include", &self.include), ("--exclude", &self.exclude)] {
            let unmatched = patterns.iter().filter(|pattern| !matches_domain(pattern));
            warnings.extend(unmatched.map(|pattern| format!("{option} '{pattern}' matches no running domain")));
        }
        for (option, patterns) in [("--metrics", &self.metrics), ("--no-metrics", &self.no_metrics)] {
            let unmatched = patterns.iter().filter(|pattern| !matches_metric(pattern));
            warnings.extend(unmatched.map(|pattern| {
                format!("{option} '{pattern}' matches no metric that is sent, see --detail and --layout")
            }));
        }
        warnings
    }
}

/// Whether a name matches one of `include`, if there are any, and none of `exclude`.
fn passes(include: &[Pattern], exclude: &[Pattern], name: &str) -> bool {
    let matches = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name));
    (include.is_empty() || matches(include)) && !matches(exclude)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &str, exclude: &str, metrics: &str, no_metrics: &str) -> Filter {
        let patterns = |text: &str| -> Vec<Pattern> { text.split_whitespace().map(|p| p.parse().unwrap()).collect() };
        Filter::new(&patterns(include), &patterns(exclude), &patterns(metrics), &patterns(no_metrics))
    }

    #[test]
    fn filter_by_include_and_exclude() {
        let mut joined = String::new();
        for (include, exclude, name, passes) in [
            ("", "", "web01", true),
            ("web*", "", "web01", true),
            ("web* db?", "", "db1", true),
            ("web* db?", "", "db10", false),
            ("", "*-test", "web-test", false),
            ("web*", "*-test", "web-test", false),
            ("web*", "*-test", "web.1", true),
            ("Web*", "", "web", false),
        ] {
            assert_eq!(filter(include, exclude, "", "").domain(name.as_bytes()), passes, "{include} {exclude} {name}");
            let metrics = filter("", "", include, exclude);
            assert_eq!(metrics.metric(&[name], &mut joined), passes, "{include} {exclude} {name}");
        }
        assert!(filter("w?b", "", "", "").domain(b"w\xffb"));
        for (parts, passes) in
            [(&["vbd", "xvda", "rd"][..], true), (&["vbd", "xvda", "wr"], false), (&["vbd_rd"], false)]
        {
            assert_eq!(filter("", "", "vbd.*", "*.wr").metric(parts, &mut joined), passes, "{parts:?}");
        }
    }

    #[test]
    fn filter_warns_of_unmatched_patterns() {
        let filter = filter("web* nginx*", "x", "cpu_* vbd.xvda.* cpu", "node.* vcpu.*.online NET-TX_k nod.*");
        let names: [&[u8]; 2] = [b"web01", b"db"];
        let warnings = |layout, details: &[Detail]| {
            let lines = filter.unmatched(&names, layout, details);
            lines.iter().map(|line| line.split(" matches no ").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let always = ["--include 'nginx*'", "--exclude 'x'"];
        let all = [always[0], always[1], "--metrics 'cpu'", "--no-metrics 'NET-TX_k'", "--no-metrics 'nod.*'"];
        assert_eq!(warnings(Layout::Xentop, &[Detail::All]), all);
        let columns =
            [&all[..2], &["--metrics 'vbd.xvda.*'", "--metrics 'cpu'", "--no-metrics 'vcpu.*.online'"], &all[3..]];
        assert_eq!(warnings(Layout::Xentop, &[Detail::Rates]), columns.concat());
        let old = [
            "--metrics 'cpu_*'",
            "--metrics 'vbd.xvda.*'",
            "--metrics 'cpu'",
            "--no-metrics 'node.*'",
            "--no-metrics 'vcpu.*.online'",
            "--no-metrics 'nod.*'",
        ];
        assert_eq!(warnings(Layout::Legacy, &[]), [&always[..], &old].concat());
    }
}
