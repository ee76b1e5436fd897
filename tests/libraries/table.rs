//! What xentop prints, and our table, taken apart.

use std::collections::BTreeMap;

pub struct Table {
    pub columns: Vec<String>,
    /// The rows of each poll.
    pub polls: Vec<Vec<Row>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub name: String,
    /// All but the name.
    pub cells: Vec<String>,
}

impl Table {
    pub fn parse(text: &str) -> Self {
        let mut table = Self { columns: Vec::new(), polls: Vec::new() };
        for line in text.lines() {
            if line.trim_start().starts_with("NAME  STATE ") {
                table.columns = line.split_whitespace().map(str::to_owned).collect();
                table.polls.push(Vec::new());
            } else {
                let row = Row::parse(line, table.columns.len());
                table.polls.last_mut().expect("a header comes first").push(row);
            }
        }
        table
    }

    pub fn cells(&self) -> usize {
        self.polls.iter().map(Vec::len).sum::<usize>() * self.columns.len()
    }

    /// The cells of ours that differ from those of xentop's, as `web01 NETS: 2, ours 1`, each once.
    ///
    /// In its first poll xentop knows no CPU(%), and shows 0.0 where we show a dash (fact 23): that is no difference.
    pub fn differences(&self, ours: &Self) -> Vec<String> {
        assert_eq!((self.polls.len(), &self.columns), (ours.polls.len(), &ours.columns));
        let mut differences = Vec::new();
        for (poll, (theirs, ours)) in self.polls.iter().zip(&ours.polls).enumerate() {
            let names = |rows: &[Row]| rows.iter().map(|row| row.name.clone()).collect::<Vec<_>>();
            assert_eq!(names(theirs), names(ours), "the domains of poll {poll}");
            for (theirs, ours) in theirs.iter().zip(ours) {
                for (column, (their, our)) in self.columns[1..].iter().zip(theirs.cells.iter().zip(&ours.cells)) {
                    let is_first = poll == 0 && column == "CPU(%)" && their == "0.0" && our == "-";
                    if their != our && !is_first {
                        differences.push(format!("{} {column}: {their}, ours {our}", theirs.name));
                    }
                }
            }
        }
        differences.sort();
        differences.dedup();
        differences
    }
}

impl Row {
    /// Only the name, which comes first, and "no limit" have blanks in them.
    fn parse(line: &str, columns: usize) -> Self {
        let line = line.replace("no limit", "no_limit");
        let mut rest = line.trim_end();
        let mut cells = Vec::new();
        while cells.len() + 1 < columns {
            let (before, cell) = rest.rsplit_once(' ').unwrap_or_else(|| panic!("no row of {columns} cells: {line}"));
            cells.push(cell.to_owned());
            rest = before.trim_end();
        }
        cells.reverse();
        Self { name: rest.trim_start().to_owned(), cells }
    }
}

/// What `xentop -v -n -x` prints below the rows of a single poll, as our gauges.
pub fn details(text: &str) -> BTreeMap<String, f64> {
    let number = |word: &str| word.trim_end_matches(|c: char| c.is_ascii_alphabetic()).parse::<f64>().unwrap();
    let mut domain = "";
    let mut gauges = BTreeMap::new();
    let mut put = |domain: &str, device: &str, names: &[&str], values: &[&str]| {
        assert_eq!(names.len(), values.len());
        for (name, value) in names.iter().zip(values) {
            assert!(gauges.insert(format!("{domain}.{device}.{name}"), number(value)).is_none());
        }
    };
    for line in text.lines().skip(1) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let Some(vcpus) = line.strip_prefix("VCPUs(sec): ") {
            let words: Vec<&str> = vcpus.split_whitespace().collect();
            for pair in words.chunks(2) {
                put(domain, &format!("vcpu.{}", pair[0].trim_end_matches(':')), &["cpu_sec"], &pair[1..]);
            }
        } else if let Some(network) = words[0].strip_prefix("Net") {
            let names =
                ["rx_bytes", "rx_packets", "rx_errs", "rx_drop", "tx_bytes", "tx_packets", "tx_errs", "tx_drop"];
            put(domain, &format!("vif.{network}"), &names, &[&words[2..6], &words[7..]].concat());
        } else if words[0] == "VBD" {
            let device = match words[2] {
                "51712" => "xvda",
                "51728" => "xvdb",
                "768" => "hda",
                other => panic!("{other}: {line}"),
            };
            let values: Vec<&str> = line.split_once("OO:").unwrap().1.split_whitespace().step_by(2).collect();
            put(domain, &format!("vbd.{device}"), &["oo", "rd", "wr", "rsect", "wsect"], &values);
        } else {
            domain = words[0];
        }
    }
    gauges
}
