//! What is told at all: `--include` and `--exclude` of domains, `--metrics` and `--no-metrics` of gauges.

use glob::Pattern;

use crate::metrics::selectable;

use crate::metrics::devices::Detail;
use crate::naming::scheme::Layout;

/// Globs on raw domain names and on metrics. Without any of a kind all is wanted.
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

    /// Whether a domain is wanted, by its raw name; what of that is not UTF-8 counts as U+FFFD.
    pub fn domain(&self, raw: &[u8]) -> bool {
        wanted(&self.include, &self.exclude, || String::from_utf8_lossy(raw))
    }

    /// Whether a gauge is wanted, by its metric such as `cpu_percent`, `vbd.xvda.rd`, `node.cpus`.
    pub fn metric(&self, metric: &str) -> bool {
        wanted(&self.metrics, &self.no_metrics, || metric)
    }

    /// A line for each pattern that none of these domains and none of the gauges that are told fits.
    pub fn unmatched(&self, names: &[&[u8]], layout: Layout, details: &[Detail]) -> Vec<String> {
        let vocabulary = selectable(layout, details);
        let of_domains = [("--include", &self.include), ("--exclude", &self.exclude)];
        let of_domains =
            of_domains.into_iter().flat_map(|(option, patterns)| patterns.iter().map(move |p| (option, p)));
        let of_domains = of_domains
            .filter(|(_, pattern)| !names.iter().any(|name| pattern.matches(&String::from_utf8_lossy(name))))
            .map(|(option, pattern)| format!("{option} '{pattern}' matches no running domain"));

        let of_gauges = [("--metrics", &self.metrics), ("--no-metrics", &self.no_metrics)];
        let of_gauges = of_gauges.into_iter().flat_map(|(option, patterns)| patterns.iter().map(move |p| (option, p)));
        let of_gauges = of_gauges.filter(|(_, pattern)| !vocabulary.iter().any(|metric| pattern.matches(metric))).map(
            |(option, pattern)| {
                format!("{option} '{pattern}' matches no metric that is sent, see --detail and --layout")
            },
        );
        of_domains.chain(of_gauges).collect()
    }
}

fn wanted<T: AsRef<str>>(only: &[Pattern], but: &[Pattern], name: impl Fn() -> T) -> bool {
    let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(name().as_ref()));
    (only.is_empty() || fits(only)) && (but.is_empty() || !fits(but))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(include: &str, exclude: &str, metrics: &str, no_metrics: &str) -> Filter {
        let patterns = |text: &str| -> Vec<Pattern> { text.split_whitespace().map(|p| p.parse().unwrap()).collect() };
        Filter::new(&patterns(include), &patterns(exclude), &patterns(metrics), &patterns(no_metrics))
    }

    #[test]
    fn what_is_wanted() {
        for (include, exclude, name, wanted) in [
            ("", "", "web01", true),
            ("web*", "", "web01", true),
            ("web* db?", "", "db1", true),
            ("web* db?", "", "db10", false),
            ("", "*-test", "web-test", false),
            ("web*", "*-test", "web-test", false),
            ("web*", "*-test", "web.1", true),
            ("Web*", "", "web", false),
        ] {
            assert_eq!(filter(include, exclude, "", "").domain(name.as_bytes()), wanted, "{include} {exclude} {name}");
            assert_eq!(filter("", "", include, exclude).metric(name), wanted, "{include} {exclude} {name}");
        }
        assert!(filter("w?b", "", "", "").domain(b"w\xffb"));
    }

    #[test]
    fn what_fits_nothing_is_told() {
        let filter = filter("web* nginx*", "x", "cpu_* vbd.xvda.* cpu", "node.* vcpu.*.online NET-TX_k nod.*");
        let names: [&[u8]; 2] = [b"web01", b"db"];
        let told = |layout, details: &[Detail]| {
            let lines = filter.unmatched(&names, layout, details);
            lines.iter().map(|line| line.split(" matches no ").next().unwrap().to_owned()).collect::<Vec<_>>()
        };
        let always = ["--include 'nginx*'", "--exclude 'x'"];
        let all = [always[0], always[1], "--metrics 'cpu'", "--no-metrics 'NET-TX_k'", "--no-metrics 'nod.*'"];
        assert_eq!(told(Layout::Xentop, &[Detail::All]), all);
        let columns =
            [&all[..2], &["--metrics 'vbd.xvda.*'", "--metrics 'cpu'", "--no-metrics 'vcpu.*.online'"], &all[3..]];
        assert_eq!(told(Layout::Xentop, &[Detail::Rates]), columns.concat());
        let old = [
            "--metrics 'cpu_*'",
            "--metrics 'vbd.xvda.*'",
            "--metrics 'cpu'",
            "--no-metrics 'node.*'",
            "--no-metrics 'vcpu.*.online'",
            "--no-metrics 'nod.*'",
        ];
        assert_eq!(told(Layout::XenMonitor, &[]), [&always[..], &old].concat());
    }
}
