//! What the process gives up before it starts a thread: all capabilities, and the system calls that would get it
//! more than its work needs. docs/privileges.md says what is left.
//!
//! Both are a thread's own and inherited by those that it starts, so this comes before any other is started.

use rustix::process::{Resource, Rlimit};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// Gives up what the kernel lets go. A line for each part that it does not: no reason to stop, but to be known.
pub fn give_up() -> Vec<String> {
    // Where there is no /dev/xen/hypercall libxenctrl locks memory for each hypercall, and crashes where it cannot.
    let _ = rustix::process::setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    let parts = [
        ("capabilities", capabilities().map_err(|error| error.to_string())),
        (
            "what programs could be given that it runs",
            thread::set_no_new_privs(true).map_err(|error| error.to_string()),
        ),
        ("system calls", system_calls::give_up()),
    ];
    let kept = |(part, result): (&str, Result<(), String>)| Some(format!("cannot give up {part}: {}", result.err()?));
    parts.into_iter().filter_map(kept).collect()
}

/// Those in use, and those that could come back. The ambient ones go with the permitted.
fn capabilities() -> rustix::io::Result<()> {
    // Only while CAP_SETPCAP is held; without it there is little to lose here, and set_no_new_privs keeps the rest away.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match thread::capability_is_in_bounding_set(capability) {
            Ok(true) if thread::remove_capability_from_bounding_set(capability).is_ok() => {}
            Ok(false) => {}
            // The kernel has no more, or will not.
            _ => break,
        }
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // Where there are none to give up asking for it may be refused: systemd's SystemCallFilter= does.
    if thread::capabilities(None)? == none { Ok(()) } else { thread::set_capabilities(None, none) }
}

/// By a seccomp filter. What only a capability allows is not in it: there are none, and none can be had.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod system_calls {
    use std::collections::BTreeMap;

    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{MaskedEq, Ne};
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    /// Refused whatever the arguments.
    const REFUSED: &[i64] = &[
        // Other programs, and copies of this one.
        libc::SYS_execve,
        libc::SYS_execveat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork,
        // Threads too: a filter cannot see what it asks for. The C library then takes clone, see below.
        libc::SYS_clone3,
        // Other processes' memory and files.
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        // Namespaces, in which a process has all capabilities again.
        libc::SYS_unshare,
        libc::SYS_setns,
        // Parts of the kernel that many a way in has led through.
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_modify_ldt,
        // Others' keys.
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
    ];

    /// Kinds of sockets that it uses, or the C library when it looks up a name.
    const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

    /// x86_64 has a second set of numbers for the same calls, with this bit, and a few numbers of its own there.
    #[cfg(target_arch = "x86_64")]
    const X32: (i64, &[(i64, i64)]) = (
        1 << 30,
        &[
            (libc::SYS_execve, 520),
            (libc::SYS_ptrace, 521),
            (libc::SYS_process_vm_readv, 539),
            (libc::SYS_process_vm_writev, 540),
            (libc::SYS_execveat, 545),
        ],
    );
    #[cfg(not(target_arch = "x86_64"))]
    const X32: (i64, &[(i64, i64)]) = (0, &[]);

    pub fn give_up() -> Result<(), String> {
        let program = filter().map_err(|error| error.to_string())?;
        seccompiler::apply_filter(&program).map_err(|error| error.to_string())
    }

    /// What is refused fails with ENOSYS, as on a kernel that does not know it: that is what C libraries can cope with.
    fn filter() -> Result<BpfProgram, BackendError> {
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|&call| (call, Vec::new())).collect();
        let is_process = SeccompCondition::new(0, Qword, MaskedEq(libc::CLONE_THREAD as u64), 0)?;
        rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is_process])?]);
        let is_no = |family| SeccompCondition::new(0, Dword, Ne, family as u64);
        let of_no_kind = FAMILIES.into_iter().map(is_no).collect::<Result<_, _>>()?;
        rules.insert(libc::SYS_socket, vec![SeccompRule::new(of_no_kind)?]);

        let (bit, others) = X32;
        let twins: Vec<_> = rules.iter().map(|(call, rules)| (call | bit, rules.clone())).collect();
        rules.extend(twins);
        rules.extend(others.iter().map(|(_, call)| (call | bit, Vec::new())));
        let refuse = SeccompAction::Errno(libc::ENOSYS as u32);
        SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?.try_into()
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod system_calls {
    pub fn give_up() -> Result<(), String> {
        Err("not known how on this kind of processor".into())
    }
}
