//! Drops at the start what the program's work does not need: all capabilities, and system calls that would let an
//! attacker get more. docs/privileges.md says what is left.
//!
//! A thread passes both on to the threads it starts, so this comes before any other thread is started.

use std::io;

use rustix::process::{Resource, Rlimit};
use rustix::thread::{self, CapabilitySet, CapabilitySets};

/// Drops what the kernel allows. Returns a message for each part that it does not: the program can still work.
pub fn drop_all() -> Vec<String> {
    // Without /dev/xen/hypercall libxenctrl locks memory for each hypercall, and crashes if it cannot.
    let _ = rustix::process::setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    let failed = |what| move |error: io::Error| format!("cannot {what}: {error}");
    let parts = [
        drop_capabilities().map_err(failed("drop capabilities")),
        thread::set_no_new_privs(true).map_err(io::Error::from).map_err(failed("set no_new_privs")),
        system_calls::filter().map_err(failed("filter system calls")),
    ];
    parts.into_iter().filter_map(Result::err).collect()
}

/// The ambient ones go with the permitted.
fn drop_capabilities() -> io::Result<()> {
    // Needs CAP_SETPCAP. Without it there is little to lose here, and no_new_privs keeps the rest from coming back.
    for number in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match thread::capability_is_in_bounding_set(capability) {
            Ok(true) if thread::remove_capability_from_bounding_set(capability).is_ok() => {}
            Ok(false) => {}
            // The kernel has no more, or refuses.
            _ => break,
        }
    }
    let none = CapabilitySet::empty();
    let none = CapabilitySets { effective: none, permitted: none, inheritable: none };
    // If there are none, the call to drop them may still be forbidden, as by systemd's SystemCallFilter=.
    if thread::capabilities(None)? != none {
        thread::set_capabilities(None, none)?;
    }
    Ok(())
}

/// A seccomp filter. It omits calls that need a capability: there are none left.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod system_calls {
    use std::collections::BTreeMap;
    use std::io;

    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{MaskedEq, Ne};
    use seccompiler::{
        BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
        SeccompRule,
    };

    /// Refused with any arguments.
    const REFUSED: &[i64] = &[
        // To run programs, and to fork.
        libc::SYS_execve,
        libc::SYS_execveat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_fork,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_vfork,
        // Creates threads too, but a filter cannot see its flags. The C library falls back to clone, see below.
        libc::SYS_clone3,
        // To access memory and files of other processes.
        libc::SYS_ptrace,
        libc::SYS_process_vm_readv,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        // Namespaces, in which a process has all capabilities again.
        libc::SYS_unshare,
        libc::SYS_setns,
        // Parts of the kernel that have had many vulnerabilities.
        libc::SYS_bpf,
        libc::SYS_perf_event_open,
        libc::SYS_userfaultfd,
        libc::SYS_io_uring_setup,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_modify_ldt,
        // The kernel's keyrings.
        libc::SYS_add_key,
        libc::SYS_request_key,
        libc::SYS_keyctl,
    ];

    /// Socket families that the program uses, or the C library to resolve names.
    const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

    /// The x32 ABI of x86_64: the same calls with this bit set, and other numbers for some.
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

    pub fn filter() -> io::Result<()> {
        let program = program().map_err(io::Error::other)?;
        seccompiler::apply_filter(&program).map_err(io::Error::other)
    }

    /// A refused call fails with ENOSYS, as on a kernel that lacks it, since C libraries handle that.
    fn program() -> Result<BpfProgram, BackendError> {
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
    use std::io;

    pub fn filter() -> io::Result<()> {
        Err(io::Error::other("not supported on this architecture"))
    }
}
