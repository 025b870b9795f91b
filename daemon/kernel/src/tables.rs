//! Filling the kernel side's maps: so that what stays in one is never absent from it, and what may be
//! a user's range or an address's prefix is a key of a trie.
//!
//! Does not belong here: what is to be in which (`interception`).

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
};

use aya::{
    Pod,
    maps::{HashMap, LpmTrie, MapData, lpm_trie::Key},
};
use chaperone_abi::{Address, NO_TARGET, TARGET_PORT_BITS, Target4, Target6, Uid};

use crate::{
    KernelError,
    notes::{is_gone, words},
};

pub(crate) fn fits(what: &'static str, count: usize, limit: usize) -> Result<(), KernelError> {
    if count > limit { Err(KernelError::TooMany { what, count, limit }) } else { Ok(()) }
}

/// Adds first and removes then: an entry that stays is never absent. `keep` says which of the
/// others stay.
pub(crate) fn replace<K: Pod + PartialEq>(
    map: &mut HashMap<&mut MapData, K, u32>,
    wanted: &[(K, u32)],
    keep: impl Fn(&K) -> bool,
) -> Result<(), KernelError> {
    let failed = |error| KernelError::refused("filling the maps", &error);
    for (key, value) in wanted {
        map.insert(*key, *value, 0).map_err(failed)?;
    }
    let present: Vec<K> = map.keys().collect::<Result<_, _>>().map_err(failed)?;
    for key in present.iter().filter(|key| !wanted.iter().any(|(k, _)| k == *key) && !keep(key)) {
        match map.remove(key) {
            // A cgroup's went with it.
            Ok(()) => {}
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}

pub(crate) fn padded<const N: usize>(
    names: &[(String, u32)],
) -> Result<Vec<([u8; N], u32)>, KernelError> {
    names
        .iter()
        .map(|(name, agent)| {
            let mut key = [0; N];
            let room = key.get_mut(..name.len()).filter(|room| room.len() < N);
            fits("bytes of a cgroup's name", name.len(), N - 1)?;
            if let Some(room) = room {
                room.copy_from_slice(name.as_bytes());
            }
            Ok((key, *agent))
        })
        .collect()
}

/// A range as prefixes: the largest aligned block first, again and again.
pub(crate) fn prefixes(range: &RangeInclusive<u32>) -> Vec<Key<UidPod>> {
    let mut found = Vec::new();
    let (mut from, to) = (u64::from(*range.start()), u64::from(*range.end()));
    while from <= to {
        let aligned = if from == 0 { 32 } else { from.trailing_zeros().min(32) };
        let fitting = (to - from + 1).ilog2();
        let bits = aligned.min(fitting);
        let start = u32::try_from(from).unwrap_or(u32::MAX);
        found.push(Key::new(32 - bits, UidPod(Uid { bytes: start.to_be_bytes() })));
        from += 1 << bits;
    }
    found
}

/// What comes of entries that are not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// They go.
    Remove,
    /// They stay and stand for nothing that could be reached: it is not known whether they may go.
    Refuse,
}

pub(crate) fn replace_trie<K>(
    map: &mut LpmTrie<&mut MapData, K, u32>,
    wanted: &[(Key<K>, u32)],
    others: Others,
) -> Result<(), KernelError>
where
    K: Pod + PartialEq,
{
    let failed = |error| KernelError::refused("filling the maps", &error);
    for (key, value) in wanted {
        map.insert(key, *value, 0).map_err(failed)?;
    }
    let present: Vec<Key<K>> = map.keys().collect::<Result<_, _>>().map_err(failed)?;
    let same = |a: &Key<K>, b: &Key<K>| a.prefix_len() == b.prefix_len() && a.data() == b.data();
    for key in present.iter().filter(|key| !wanted.iter().any(|(k, _)| same(k, key))) {
        match others {
            Others::Remove => map.remove(key).map_err(failed)?,
            Others::Refuse => map.insert(key, NO_TARGET, 0).map_err(failed)?,
        }
    }
    Ok(())
}

pub(crate) fn key4(address: Ipv4Addr, bits: u8, port: u16) -> Key<Target4Pod> {
    let address = u32::from_ne_bytes(address.octets());
    let key = Target4 { port: port.to_be_bytes(), reserved: [0; 2], address };
    Key::new(TARGET_PORT_BITS + u32::from(bits), Target4Pod(key))
}

pub(crate) fn key6(address: Ipv6Addr, bits: u8, port: u16) -> Key<Target6Pod> {
    let key = Target6 { port: port.to_be_bytes(), reserved: [0; 2], address: words(address) };
    Key::new(TARGET_PORT_BITS + u32::from(bits), Target6Pod(key))
}

pub(crate) fn host(address: Ipv6Addr, bits: u8) -> Key<AddressPod> {
    Key::new(bits.into(), AddressPod(Address { words: words(address) }))
}

#[repr(transparent)]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct AddressPod(Address);

#[repr(transparent)]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Target4Pod(Target4);

#[repr(transparent)]
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Target6Pod(Target6);

#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UidPod(Uid);

// SAFETY: plain structures of integers and bytes without padding (sizes asserted in the ABI crate),
// so that any bytes are a value.
unsafe impl Pod for Target4Pod {}
// SAFETY: as above.
unsafe impl Pod for Target6Pod {}
// SAFETY: as above.
unsafe impl Pod for AddressPod {}
// SAFETY: as above.
unsafe impl Pod for UidPod {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_users_is_covered_exactly() {
        for (from, to) in [(5, 5), (0, 7), (100_000, 165_535), (231_072, 296_607), (3, 64)] {
            let keys = prefixes(&(from..=to));
            let mut covered = Vec::new();
            for key in &keys {
                let start = u32::from_be_bytes(key.data().0.bytes);
                covered.extend(start..=start + ((1_u32 << (32 - key.prefix_len())) - 1));
            }
            assert_eq!(covered, (from..=to).collect::<Vec<_>>());
            assert!(keys.len() <= 34);
        }
        assert_eq!(prefixes(&(0..=u32::MAX)).len(), 1);
    }
}
