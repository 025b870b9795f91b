//! Reading BPF Type Format, as far as offsets of structures' fields need it
//! (Documentation/bpf/btf.rst in the kernel's sources).

const MAGIC: u16 = 0xeb9f;

// Kinds of type (include/uapi/linux/btf.h).
const INT: u32 = 1;
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;
const ENUM: u32 = 6;
const FUNC: u32 = 12;
const FUNC_PROTO: u32 = 13;
const VAR: u32 = 14;
const DATASEC: u32 = 15;
const DECL_TAG: u32 = 17;
const ENUM64: u32 = 19;

/// Structures within structures that are looked into: anonymous ones, and not deeply nested.
const DEPTH: usize = 8;

/// A parsed file. It is read in the machine's own byte order, as the kernel writes its own.
pub(crate) struct Btf<'a> {
    strings: &'a [u8],
    /// The types by id; 0 is `void` and has no entry.
    types: Vec<Type<'a>>,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    name: u32,
    kind: u32,
    /// Whether members' offsets share their field with a bit-field's size.
    bit_fields: bool,
    /// What follows: for structures, their members.
    rest: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Reads a file; `None` where it is none, or uses a kind of type that is not known.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (magic, _) = bytes.split_first_chunk::<2>()?;
        if u16::from_ne_bytes(*magic) != MAGIC {
            return None;
        }
        let field = |index: usize| word(bytes, 4 * index).map(|word| word as usize);
        let body = bytes.get(field(1)?..)?;
        let section = |offset: usize, length: usize| body.get(offset..)?.get(..length);
        let mut rest = section(field(2)?, field(3)?)?;
        let strings = section(field(4)?, field(5)?)?;
        let mut types = Vec::new();
        while !rest.is_empty() {
            let (name, info) = (word(rest, 0)?, word(rest, 4)?);
            let (count, kind) = ((info & 0xffff) as usize, info >> 24 & 0x1f);
            let length = match kind {
                INT | VAR | DECL_TAG => 4,
                ARRAY => 12,
                STRUCT | UNION | DATASEC | ENUM64 => 12 * count,
                ENUM | FUNC_PROTO => 8 * count,
                2 | 7..=12 | 16 | 18 => 0,
                _ => return None,
            };
            let (this, next) = rest.get(12..)?.split_at_checked(length)?;
            types.push(Type { name, kind, bit_fields: info >> 31 == 1, rest: this });
            rest = next;
        }
        Some(Self { strings, types })
    }

    /// The offset in bytes of a field of a structure, also where it stands in an anonymous
    /// structure or union within.
    pub(crate) fn offset(&self, structure: &str, field: &str) -> Option<u32> {
        self.types
            .iter()
            .filter(|found| found.kind == STRUCT && self.is(found.name, structure))
            .find_map(|found| self.field(found, field, DEPTH))
    }

    /// The id of a function's type.
    pub(crate) fn function(&self, name: &str) -> Option<u32> {
        let is = |found: &Type<'_>| found.kind == FUNC && self.is(found.name, name);
        u32::try_from(self.types.iter().position(is)? + 1).ok()
    }

    pub(crate) fn has(&self, structure: &str) -> bool {
        self.types.iter().any(|found| found.kind == STRUCT && self.is(found.name, structure))
    }

    fn field(&self, within: &Type<'_>, field: &str, depth: usize) -> Option<u32> {
        within.rest.chunks_exact(12).find_map(|member| {
            let (name, of, offset) = (word(member, 0)?, word(member, 4)?, word(member, 8)?);
            let bits = if within.bit_fields { offset & 0x00ff_ffff } else { offset };
            if self.is(name, field) {
                return Some(bits / 8);
            }
            let inner = self.types.get((of as usize).checked_sub(1)?)?;
            let looks_in = name == 0 && matches!(inner.kind, STRUCT | UNION) && depth > 0;
            looks_in.then(|| self.field(inner, field, depth - 1)).flatten().map(|o| o + bits / 8)
        })
    }

    fn is(&self, name: u32, wanted: &str) -> bool {
        let found = self.strings.get(name as usize..).unwrap_or_default();
        name != 0
            && found.strip_prefix(wanted.as_bytes()).is_some_and(|rest| rest.starts_with(&[0]))
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_ne_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `struct task { int pid; struct { long start; }; }`
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0task\0pid\0start\0";
        let at = |name: &str| {
            let found = strings.windows(name.len()).position(|w| w == name.as_bytes());
            u32::try_from(found.expect("there")).expect("small")
        };
        let mut types: Vec<u32> = vec![at("int"), INT << 24, 4, 32];
        types.extend([0, STRUCT << 24 | 1, 8, at("start"), 1, 64]);
        types.extend([at("task"), STRUCT << 24 | 2, 24, at("pid"), 1, 0, 0, 2, 64]);
        let length = u32::try_from(4 * types.len()).expect("small");
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        for word in [24, 0, length, length, u32::try_from(strings.len()).expect("small")] {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(types.iter().flat_map(|word| word.to_ne_bytes()));
        bytes.extend(strings);
        bytes
    }

    #[test]
    fn fields_are_found_also_in_anonymous_structures() {
        let bytes = sample();
        let btf = Btf::parse(&bytes).expect("BTF");
        assert_eq!(btf.offset("task", "pid"), Some(0));
        assert_eq!(btf.offset("task", "start"), Some(16));
        assert_eq!(btf.offset("task", "sta"), None);
        assert_eq!(btf.offset("other", "pid"), None);
    }

    #[test]
    fn what_is_cut_short_is_no_btf() {
        let bytes = sample();
        for length in 0..bytes.len() {
            assert!(Btf::parse(&bytes[..length]).is_none(), "{length}");
        }
    }
}
