//! The man page: the help texts of the command line, and the usual other sections.

use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Inline, Roff, bold, roman};

/// xenmonitor(8).
pub fn page(command: Command) -> io::Result<Vec<u8>> {
    let version = env!("CARGO_PKG_VERSION");
    // The default synopsis is a paragraph of forty options.
    let command = command.override_usage("xenmonitor [OPTIONS]");
    let details = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command)
        .title("XENMONITOR")
        .section("8")
        .source(format!("xenmonitor {version}"))
        .manual("System administration");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;

    let mut roff = Roff::new();
    for section in details.split("\n\n") {
        let (title, text) = section.split_once(": ").unwrap_or(("Notes", section));
        let title = if title == "Exit codes" { "EXIT STATUS".to_owned() } else { title.to_uppercase() };
        roff.control("SH", [title.as_str()]);
        roff.text([roman(text)]);
    }
    roff.control("SH", ["FILES"]);
    for (file, what) in [
        ("/etc/default/xenmonitor", "settings of the service, as environment variables"),
        ("/usr/share/doc/xenmonitor/", "README.md and docs/ with the complete documentation; Grafana dashboards"),
        ("/dev/xen/privcmd", "libxenstat's interface to Xen; the service is not started if it does not exist"),
        ("/run/xen/qmp-libxenstat-DOMID", "QMP socket of a guest's QEMU, for the statistics of its disks"),
        ("/sys/hypervisor/version", "the release of Xen, which selects the libxenstat to load"),
    ] {
        entry(&mut roff, file, what);
    }
    roff.control("SH", ["EXAMPLES"]);
    for (line, what) in [
        ("xenmonitor --check", "Check that everything the daemon needs is available."),
        ("(set -a; . /etc/default/xenmonitor; xenmonitor --check)", "Check with the settings of the service."),
        ("xenmonitor --watch", "Show a live table with the busiest domain on top; press q to quit."),
        ("xenmonitor --print table --count 2 --interval 2s", "Print the same table as xentop -b -f."),
        ("xenmonitor --statsd udp://stats.example.com:8125", "Send metrics every 10 seconds until interrupted."),
    ] {
        entry(&mut roff, line, what);
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text([bold("xentop"), roman("(1), "), bold("xl"), roman("(1), "), bold("systemctl"), roman("(1)")]);
    roff.to_writer(&mut page)?;
    Ok(page)
}

fn entry(roff: &mut Roff, what: &str, words: &str) {
    roff.control("TP", []);
    roff.text([bold(what)]);
    roff.text(Vec::<Inline>::from([roman(words)]));
}
