use toml::Value;

use super::*;

fn at(poll: u64) -> Moment {
    Moment { poll, elapsed_ns: poll * 1_500_000_000, index: 0 }
}

fn parse(text: &str) -> Scenario {
    Scenario::parse(text).expect("a good scenario")
}

/// The value that `X = ...` gives to a type.
fn value<T: TryFrom<Value>>(text: &str) -> Result<T, T::Error> {
    let table: toml::Table = toml::from_str(&format!("x = {text}")).expect("TOML");
    T::try_from(table["x"].clone())
}

fn ids(scenario: &Scenario, poll: u64) -> Vec<u32> {
    scenario.list(poll).iter().map(|listed| listed.id).collect()
}

#[test]
fn scenario_amounts_have_units() {
    for (text, amount) in [
        ("5", 5),
        ("-1", u64::MAX),
        ("'no limit'", u64::MAX),
        ("'18446744073709551615'", u64::MAX),
        ("'8G'", 8 << 30),
        ("'1_000 K'", 1000 << 10),
        ("'250ms'", 250_000_000),
        ("'-3s'", (-3_000_000_000_i64) as u64),
    ] {
        assert_eq!(value::<Amount>(text), Ok(Amount(amount)), "{text}");
    }
    for text in ["'8 apples'", "'G'", "''", "1.5", "'18446744073709551616'", "'9999999999999T'"] {
        assert!(value::<Amount>(text).is_err(), "{text}");
    }
}

#[test]
fn scenario_wave_varies_and_never_decreases() {
    let steady: Counter = value("{ start = 7, per_second = 1_000 }").unwrap();
    let wave: Counter = value("{ start = 7, per_second = 1_000, wave = '40s' }").unwrap();
    let at =
        |counter: Counter, seconds: u64| counter.at(Moment { poll: 0, elapsed_ns: seconds * 1_000_000_000, index: 0 });
    let speeds: Vec<u64> = (0..400).map(|s| at(wave, s + 1).checked_sub(at(wave, s)).unwrap()).collect();
    assert!(speeds.iter().any(|speed| *speed < 200) && speeds.iter().any(|speed| *speed > 1_800), "{speeds:?}");
    assert!(speeds.iter().all(|speed| *speed <= 2_000), "{speeds:?}");
    // A whole number of periods of both its parts.
    assert_eq!(at(wave, 400), at(steady, 400));
}

#[test]
fn scenario_counters_change() {
    for (text, values) in [
        ("7", [7, 7, 7]),
        ("{ start = 7, per_poll = 3 }", [7, 10, 13]),
        ("{ per_second = 10 }", [0, 15, 30]),
        ("{ start = 100, per_second = -10 }", [100, 85, 70]),
        ("{ start = 100, per_poll = '-1' }", [100, 99, 98]),
        ("{ start = 'no limit', per_poll = 1 }", [u64::MAX, 0, 1]),
        ("{ start = 1, per_domain = 1000, per_poll_per_domain = 5 }", [1, 1, 1]),
    ] {
        let counter: Counter = value(text).expect(text);
        assert_eq!([0, 1, 2].map(|poll| counter.at(at(poll))), values, "{text}");
    }
    let counter: Counter = value("{ start = 1, per_poll = 10, per_domain = 1000, per_poll_per_domain = 5 }").unwrap();
    assert_eq!(counter.at(Moment { index: 3, ..at(2) }), 1 + 3 * 1000 + 2 * (10 + 3 * 5));
    // Exact far beyond what a float holds.
    let counter: Counter = value("{ start = '8000000000000000000', per_second = '9000000001s' }").unwrap();
    let late = Moment { poll: 0, elapsed_ns: 1, index: 0 };
    assert_eq!(counter.at(late), 8_000_000_009_000_000_001);
}

#[test]
fn scenario_poll_sets() {
    for (text, polls) in [
        ("false", vec![]),
        ("true", (0..10).collect()),
        ("3", vec![3]),
        ("'2..5'", vec![2, 3, 4]),
        ("'8..'", vec![8, 9]),
        ("'every 4'", vec![4, 8]),
        ("[0, '2..4', 'every 7']", vec![0, 2, 3, 7]),
    ] {
        let named: Polls = value(text).expect(text);
        assert_eq!((0..10).filter(|poll| named.contains(*poll)).collect::<Vec<_>>(), polls, "{text}");
    }
    for text in ["-1", "'every 0'", "'now'", "'5'", "1.0", "['x']"] {
        assert!(value::<Polls>(text).is_err(), "{text}");
    }
}

#[test]
fn scenario_domains_are_listed_by_domid() {
    let scenario = parse(
        "[[domain]]\nid = 9\nuntil_poll = 2\n\
         [[domain]]\nid = 0\n\
         [[domain]]\nid = 3\ncount = 3\nid_step = 10\nfrom_poll = 1",
    );
    assert_eq!(ids(&scenario, 0), [0, 9]);
    assert_eq!(ids(&scenario, 1), [0, 3, 9, 13, 23]);
    assert_eq!(ids(&scenario, 2), [0, 3, 13, 23]);
}

#[test]
fn scenario_names_change_and_are_generated() {
    let scenario = parse(
        "[[domain]]\nid = 1\nname = 'a{i}'\nrename = [{ poll = 5, name = 'z' }, { poll = 2, name_hex = 'ff 0a' }]\n\
         [[domain]]\nid = 2\ncount = 2\nname = 'vm{i}'\n\
         [[domain]]\nid = 7",
    );
    let names = |poll| {
        let list = scenario.list(poll);
        list.iter().map(|l| l.domain.name_at(l.id, Moment { index: l.index, ..at(poll) })).collect::<Vec<_>>()
    };
    assert_eq!(names(0), [&b"a{i}\0"[..], b"vm0\0", b"vm1\0", b"dom7\0"]);
    assert_eq!(names(2)[0], b"\xff\n\0");
    assert_eq!(names(9)[0], b"z\0");
}

#[test]
fn scenario_paging_bug_repeats_sparse_domids() {
    let text = "[[domain]]\nid = 0\ncount = 301\nid_step = 3\n";
    assert_eq!(ids(&parse(text), 0).len(), 301);

    let scenario = parse(&format!("sparse_paging_bug = true\n{text}"));
    let list = scenario.list(0);
    // Pages start at domid 0, 256 and 471: domains 0..256, 86..301 (a short page, the last).
    assert_eq!(list.len(), 256 + 215);
    assert_eq!(list[256].id, 258);
    assert_eq!(list.iter().filter(|listed| !listed.repeated).count(), 301);

    let dense = parse("sparse_paging_bug = true\n[[domain]]\nid = 0\ncount = 600");
    assert_eq!(ids(&dense, 0), (0..600).collect::<Vec<_>>());
    // 301 guests far apart from dom0: pages from 0, 256, 512, ... until the domids are used up.
    let far = parse("sparse_paging_bug = true\n[[domain]]\nid = 0\n[[domain]]\nid = 1000\ncount = 300");
    let list = far.list(0);
    assert_eq!(list.iter().filter(|listed| !listed.repeated).count(), 301);
    assert_eq!(list.len(), 256 * 4 + 276);
}

#[test]
fn scenario_states_cycle() {
    let scenario = parse("[[domain]]\nid = 1\nstate_cycle = [['running'], [], ['paused', 'blocked']]");
    let domain = scenario.list(0)[0].domain;
    assert_eq!([0, 1, 2, 3].map(|poll| domain.state_at(poll)), [32, 0, 20, 32]);
    assert_eq!(State::Paused.within(20), 1);
    assert_eq!(State::Running.within(20), 0);
}

#[test]
fn scenario_faults_depend_on_flags() {
    let scenario = parse("[[fault]]\nat = '1..'\nif_asked = ['VBD']\nfail = 'ENOENT'");
    let fault = &scenario.faults[0];
    assert!(fault.concerns(0xf) && fault.concerns(0x8) && !fault.concerns(0x7));
    assert_eq!(fault.fail.as_ref().map(|errno| errno.0), Some(libc::ENOENT));
}

#[test]
fn scenario_errors_have_a_line_number() {
    for (text, why) in [
        ("clock_step = '1s'\nfoo = 1", "2: unknown field `foo`"),
        ("[[domain]]\nname = 'x'", "1: missing field `id`"),
        ("[[domain]]\nid = 1\n\ncpu_ns = '8x'", "4: \"8x\" is no number"),
        ("[[domain]]\nid = 1\ncpu_ns = { per_pol = 1 }", "3: unknown field `per_pol`"),
        ("[[domain]]\nid = 1\nname = 'a'\nname_hex = '41'", " domain 1: a name is"),
        ("[[domain]]\nid = 1\nname_hex = '4100'", " domain 1: a name is"),
        ("[[domain]]\nid = 1\nname_hex = '4'", "3: \"4\" is not hexadecimal"),
        ("[[init_fault]]\nempty = true", " `empty` and `if_asked` are for a [[fault]]"),
        ("[[domain]]\nid = 1\nstate = ['asleep']", "3: unknown variant `asleep`"),
        ("[[domain]]\nid = 1\n[[domain.vbd]]\nerror = 'often'", "4: \"often\" names no polls"),
    ] {
        let error = Scenario::parse(text).err().expect(text);
        assert!(error.starts_with(why), "{text}\n gives: {error}");
    }
}

#[test]
fn scenario_files_are_valid() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios");
    for file in std::fs::read_dir(folder).expect(folder) {
        let path = file.expect(folder).path();
        let text = std::fs::read_to_string(&path).expect("a scenario");
        let scenario = Scenario::parse(&text).unwrap_or_else(|why| panic!("{}:{why}", path.display()));
        assert!(!scenario.list(0).is_empty(), "{}", path.display());
    }
}
