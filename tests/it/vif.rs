//! Network interfaces, read from the kernel.

use serde_json::Value;

use crate::support::{Scratch, behind, out_of, unshared, xenmonitor};

/// A renamed VIF is identified by its device; here the kernel's file for that is simulated.
#[test]
fn vif_renamed_is_found_by_its_device() {
    let scratch = Scratch::new();
    let scenario = scratch.file("s.toml", "[[domain]]\nid = 1\nname = \"web\"\n");
    let script = "ip link add web-lan type veth peer name peer && mount -t tmpfs none /sys/class/net && \
                  mkdir -p /sys/class/net/web-lan/device && \
                  echo backend/vif/1/7 > /sys/class/net/web-lan/device/nodename && exec \"$0\" \"$@\"";
    let daemon = xenmonitor(&scenario);
    let mut command = unshared(&["--net", "--mount"], "sh");
    command.args(["-c", script]);
    let mut command = behind(command, &daemon);
    let document: Value =
        serde_json::from_str(&out_of(command.args(["--once", "--print", "json", "--vifs", "kernel"]))).unwrap();
    assert_eq!(document["domains"][0]["vif"][0]["id"], 7);
}

/// The kernel's VIFs on a host without a bridge, with real interfaces in a network namespace. libxenstat, which would
/// show none (fact 1), is not called for them.
#[test]
fn vif_counters_of_the_kernel_need_no_bridge() {
    let scratch = Scratch::new();
    let host = "[[domain]]\nid = 0\nname = \"Domain-0\"\n[[domain]]\nid = 1\nname = \"web\"\n[[domain]]\nid = 2\nname = \"db\"\n\
                [[domain.network]]\nrbytes = 77\n[[fault]]\nif_asked = [\"NETWORK\"]\nfail = \"EIO\"\n";
    let scenario = scratch.file("s.toml", host);
    let script = "ip link add vif1.0 type veth peer name peer10 && ip link add vif1.3 type veth peer name peer13 && \
                  ip link add vif9.0 type veth peer name peer90 && ip link add vif1.0-emu type veth peer name peere && \
                  ip link set vif1.0 up && ip link set peer10 up && ip addr add 10.9.0.1/24 dev vif1.0 && \
                  ip link set vif1.0-emu up && ip link set peere up && \
                  until awk '$1 == \"vif1.0:\" && $2 && $3 && $10 && $11 { ok = 1 } END { exit !ok }' /proc/net/dev; \
                  do sleep 0.1; done && \
                  cat /proc/net/dev > \"$BEFORE\" && \"$0\" \"$@\" && cat /proc/net/dev > \"$AFTER\"";
    let (before, after) = (scratch.join("before"), scratch.join("after"));
    let daemon = xenmonitor(&scenario);
    let inside = |options: &[&str]| {
        let mut command = unshared(&["--net"], "sh");
        command.args(["-c", script]).env("BEFORE", &before).env("AFTER", &after);
        let mut command = behind(command, &daemon);
        command.args(["--once", "--print", "json"]).args(options);
        command
    };
    let counter = |file: &std::path::Path, interface: &str, column: usize| -> u64 {
        let text = std::fs::read_to_string(file).unwrap();
        let line = text.lines().find_map(|line| line.trim().strip_prefix(&format!("{interface}:"))).unwrap();
        line.split_whitespace().nth(column).unwrap().parse().unwrap()
    };
    for options in [&[][..], &["--vifs", "kernel"]] {
        let document: Value = serde_json::from_str(&out_of(inside(options).env_remove("XENMONITOR_VIFS"))).unwrap();
        let domain = |n: usize| &document["domains"][n];
        assert_eq!((&domain(0)["nets"], &domain(1)["nets"], &domain(2)["nets"]), (&0.into(), &2.into(), &0.into()));
        let ids: Vec<&Value> = domain(1)["vif"].as_array().unwrap().iter().map(|vif| &vif["id"]).collect();
        assert_eq!(ids, [&Value::from(0), &Value::from(3)]);
        for (key, column) in [("rx_bytes", 0), ("rx_packets", 1), ("tx_bytes", 8), ("tx_packets", 9)] {
            let both = |file| counter(file, "vif1.0", column) + counter(file, "vif1.0-emu", column);
            let bytes = domain(1)["vif"][0][key].as_u64().unwrap();
            assert!((both(&before)..=both(&after)).contains(&bytes), "{key}: {bytes}");
            assert!(bytes > 0, "{key}: nothing moved");
        }
    }
    // In this scenario libxenstat fails when asked for networks: so the runs above did not ask.
    let document: Value = serde_json::from_str(&out_of(&mut inside(&["--vifs", "libxenstat"]))).unwrap();
    assert_eq!(document["domains"][1]["nets"], Value::Null);
}
