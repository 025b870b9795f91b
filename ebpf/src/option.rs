//! `setsockopt(2)`: a TCP connection stays one. TLS in the kernel (`tls`) is no other protocol.
//!
//! Other options need no hook: what `IP_TRANSPARENT`, `IP_FREEBIND`, `SO_BINDTODEVICE` and source
//! routes change is seen at connect and by the guard.

use aya_ebpf::{
    helpers::generated::bpf_sk_storage_get, macros::cgroup_sockopt, programs::SockoptContext,
};
use chaperone_abi::{Counter, NO_TARGET, Owner, kinds};

use crate::{
    maps::{OWNERS, SETTINGS},
    tell::{self, Attempt},
};

const REFUSE: i32 = 0;
const PASS: i32 = 1;

/// `IPPROTO_TCP`, `SOL_TCP`.
const TCP: i32 = 6;
/// `TCP_ULP` (include/uapi/linux/tcp.h).
const TCP_ULP: i32 = 31;
/// What the kernel shows of an option at most: a page.
const SHOWN: i32 = 4096;

#[cgroup_sockopt(setsockopt)]
pub fn chaperone_setsockopt(ctx: SockoptContext) -> i32 {
    // SAFETY: the verifier bounds reads of the context.
    let (level, name, length) =
        unsafe { ((*ctx.sockopt).level, (*ctx.sockopt).optname, (*ctx.sockopt).optlen) };
    let denied = level == TCP && name == TCP_ULP && is_denied();
    if length > SHOWN && !denied {
        // An option longer than that would be refused unless it is left to the kernel
        // (Documentation/bpf/prog_cgroup_sockopt.rst).
        // SAFETY: the field is writable in this hook.
        unsafe { (*ctx.sockopt).optlen = 0 };
        return PASS;
    }
    // A name of more than a page is none that anybody needs; the kernel would cut it.
    if !denied || length <= SHOWN && is_tls(&ctx, length) {
        return PASS;
    }
    let Some(settings) = SETTINGS.get(0) else { return PASS };
    // SAFETY: the context holds the socket.
    let owner = unsafe {
        let sk = (*ctx.sockopt).__bindgen_anon_1.sk;
        bpf_sk_storage_get(OWNERS.as_ptr(), sk.cast(), core::ptr::null_mut(), 0)
            .cast::<Owner>()
            .as_ref()
    };
    let Some(owner) = owner else {
        if length > SHOWN {
            // SAFETY: as above.
            unsafe { (*ctx.sockopt).optlen = 0 };
        }
        return PASS;
    };
    let attempt = Attempt {
        reason: Counter::RefusedOption,
        target: NO_TARGET,
        address: [0; 4],
        port: 0,
        protocol: TCP as u32,
    };
    tell::of_owner(settings, owner, &attempt);
    REFUSE
}

#[inline(always)]
fn is_denied() -> bool {
    SETTINGS.get(0).is_some_and(|settings| settings.deny_sockets & kinds::SMC != 0)
}

/// Whether the value is `tls`. It is the kernel's copy, which the caller can no longer change.
#[inline(always)]
fn is_tls(ctx: &SockoptContext, length: i32) -> bool {
    // SAFETY: the pointers are the context's; nothing is read beyond the end.
    unsafe {
        let value = (*ctx.sockopt).__bindgen_anon_2.optval.cast::<u8>();
        let end = (*ctx.sockopt).__bindgen_anon_3.optval_end as usize;
        if value as usize + 3 > end || length < 3 {
            return false;
        }
        *value == b't'
            && *value.add(1) == b'l'
            && *value.add(2) == b's'
            && (length == 3 || value as usize + 4 <= end && *value.add(3) == 0)
    }
}
