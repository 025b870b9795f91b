//! Attributes of files (section 5) and how they are opened (section 6.3).

use std::fmt;

use super::frame::{Body, Violation};

/// What a request sets, or a file is made with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// Length in bytes: setting it cuts or extends the file.
    pub size: Option<u64>,
    /// User id and group id.
    pub owner: Option<(u32, u32)>,
    /// Mode bits as in `stat(2)`.
    pub permissions: Option<u32>,
    /// Of the last access and the last change, in seconds since 1970.
    pub times: Option<(u32, u32)>,
    /// How many others it names, which are not read.
    pub extended: u32,
}

const SIZE: u32 = 0x1;
const OWNER: u32 = 0x2;
const PERMISSIONS: u32 = 0x4;
const TIMES: u32 = 0x8;
const EXTENDED: u32 = 0x8000_0000;

impl Attributes {
    pub(super) fn read(body: &mut Body<'_>) -> Result<Self, Violation> {
        let flags = body.u32()?;
        if flags & !(SIZE | OWNER | PERMISSIONS | TIMES | EXTENDED) != 0 {
            return Err(body.malformed("its attributes are not those of version 3"));
        }
        let has = |flag| flags & flag != 0;
        let mut read = Self::default();
        if has(SIZE) {
            read.size = Some(body.u64()?);
        }
        if has(OWNER) {
            read.owner = Some((body.u32()?, body.u32()?));
        }
        if has(PERMISSIONS) {
            read.permissions = Some(body.u32()?);
        }
        if has(TIMES) {
            read.times = Some((body.u32()?, body.u32()?));
        }
        if has(EXTENDED) {
            read.extended = body.u32()?;
            // Each takes eight bytes at least, so that the packet's length bounds this.
            for _ in 0..read.extended {
                body.string()?;
                body.string()?;
            }
        }
        Ok(read)
    }
}

impl fmt::Display for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.size.map(|size| format!("size {size}")));
        parts.extend(self.owner.map(|(user, group)| format!("owner {user}:{group}")));
        parts.extend(self.permissions.map(|mode| format!("mode {:04o}", mode & 0o7777)));
        parts.extend(self.times.map(|(_, modified)| format!("time {modified}")));
        if self.extended > 0 {
            parts.push(format!("{} others", self.extended));
        }
        f.write_str(&parts.join(", "))
    }
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenFlags {
    /// For reading.
    pub read: bool,
    /// For writing.
    pub write: bool,
    /// What is written goes to the end, wherever it says that it belongs.
    pub append: bool,
    /// It is made where it is not there.
    pub create: bool,
    /// It is emptied.
    pub truncate: bool,
    /// It must not be there.
    pub exclusive: bool,
}

impl OpenFlags {
    pub(super) fn read_from(body: &mut Body<'_>) -> Result<Self, Violation> {
        let flags = body.u32()?;
        if flags & !0x3f != 0 {
            return Err(body.malformed("it opens a file in a way that version 3 does not have"));
        }
        let has = |flag| flags & flag != 0;
        Ok(Self {
            read: has(0x1),
            write: has(0x2),
            append: has(0x4),
            create: has(0x8),
            truncate: has(0x10),
            exclusive: has(0x20),
        })
    }

    /// Whether opening it, or what may be done with it then, can change anything.
    pub fn changes(self) -> bool {
        self.write || self.append || self.create || self.truncate
    }
}

impl fmt::Display for OpenFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = [
            (self.read, "read"),
            (self.write, "write"),
            (self.append, "append"),
            (self.create, "create"),
            (self.truncate, "truncate"),
            (self.exclusive, "exclusive"),
        ];
        let said: Vec<&str> = words.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect();
        f.write_str(&said.join(", "))
    }
}
