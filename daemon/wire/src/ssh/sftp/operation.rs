//! The requests that are commands.

use std::fmt;

pub use chaperone_model::Access;
use chaperone_model::Rung;

use super::attributes::{Attributes, OpenFlags};
use crate::ssh::shown;

/// A request that policy decides. Paths are as the client gave them; relative ones count from
/// the folder in which the server starts. What a handle stands for is named by the path with which
/// it was opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `OPEN`. What is read and written through the handle belongs to it.
    Open {
        /// Which file.
        path: Vec<u8>,
        /// For what.
        flags: OpenFlags,
        /// Of a file that is made by it.
        attributes: Attributes,
    },
    /// `OPENDIR`: its names are listed through the handle.
    OpenDirectory {
        /// Which folder.
        path: Vec<u8>,
    },
    /// `REMOVE`: a file goes.
    Remove {
        /// Which file.
        path: Vec<u8>,
    },
    /// `RENAME`, `posix-rename@openssh.com`.
    Rename {
        /// Its name before.
        from: Vec<u8>,
        /// Its name after.
        to: Vec<u8>,
        /// What has that name already is replaced.
        replaces: bool,
    },
    /// `MKDIR`.
    MakeDirectory {
        /// Which folder.
        path: Vec<u8>,
        /// What it is made with.
        attributes: Attributes,
    },
    /// `RMDIR`: an empty folder goes.
    RemoveDirectory {
        /// Which folder.
        path: Vec<u8>,
    },
    /// `SETSTAT`, `FSETSTAT`, `lsetstat@openssh.com`.
    SetAttributes {
        /// Of which file.
        path: Vec<u8>,
        /// To what.
        attributes: Attributes,
        /// Symbolic links are followed.
        follows: bool,
    },
    /// `SYMLINK`, with the paths in OpenSSH's order, which is not the draft's, but what clients and
    /// servers do. With a server of the other order the two are exchanged: a rule should look at
    /// both.
    Symlink {
        /// What the link says.
        target: Vec<u8>,
        /// The link that is made.
        link: Vec<u8>,
    },
    /// `hardlink@openssh.com`.
    Hardlink {
        /// The file.
        from: Vec<u8>,
        /// Its other name.
        to: Vec<u8>,
    },
    /// `READLINK`.
    ReadLink {
        /// Which link.
        path: Vec<u8>,
    },
    /// `copy-data`: the server copies from one open file to another.
    CopyData {
        /// From which file.
        from: Vec<u8>,
        /// To which.
        to: Vec<u8>,
        /// Where in the first it begins.
        from_offset: u64,
        /// Where in the other it begins.
        to_offset: u64,
        /// Bytes; 0 means all.
        length: u64,
    },
    /// An extension that is not read.
    Extension {
        /// Its name.
        name: Vec<u8>,
        /// What it asks for.
        data: Vec<u8>,
    },
}

impl Operation {
    /// One word for it, for rules and the log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Open { .. } => "open",
            Self::OpenDirectory { .. } => "opendir",
            Self::Remove { .. } => "remove",
            Self::Rename { .. } => "rename",
            Self::MakeDirectory { .. } => "mkdir",
            Self::RemoveDirectory { .. } => "rmdir",
            Self::SetAttributes { .. } => "setstat",
            Self::Symlink { .. } => "symlink",
            Self::Hardlink { .. } => "hardlink",
            Self::ReadLink { .. } => "readlink",
            Self::CopyData { .. } => "copy-data",
            Self::Extension { .. } => "extension",
        }
    }

    /// The paths that it names, and whether each is only read. An extension that is not read
    /// names none that is known.
    pub fn paths(&self) -> Vec<(&[u8], Access)> {
        use Access::{Read, Write};
        match self {
            Self::Open { path, flags, .. } => {
                vec![(path, if flags.changes() { Write } else { Read })]
            }
            Self::OpenDirectory { path } | Self::ReadLink { path } => vec![(path, Read)],
            Self::Remove { path }
            | Self::MakeDirectory { path, .. }
            | Self::RemoveDirectory { path }
            | Self::SetAttributes { path, .. } => vec![(path, Write)],
            // Through another name a file can be changed later.
            Self::Rename { from, to, .. } | Self::Hardlink { from, to } => {
                vec![(from, Write), (to, Write)]
            }
            Self::Symlink { target, link } => vec![(target, Read), (link, Write)],
            Self::CopyData { from, to, .. } => vec![(from, Read), (to, Write)],
            Self::Extension { .. } => Vec::new(),
        }
    }

    /// How much it can do, and why: words that follow "because".
    pub fn rung(&self) -> (Rung, &'static str) {
        match self {
            Self::Open { flags, attributes, .. } if flags.changes() => {
                making(*attributes, "it writes a file that it names")
            }
            Self::Open { .. } | Self::ReadLink { .. } => (Rung::Read, "it only reads"),
            Self::OpenDirectory { .. } => (Rung::Read, "it lists a folder"),
            Self::Remove { .. } => (Rung::Destructive, "it removes a file"),
            Self::RemoveDirectory { .. } => (Rung::Destructive, "it removes a folder"),
            Self::Rename { .. } => (Rung::Write, "it renames a file"),
            Self::MakeDirectory { attributes, .. } => making(*attributes, "it makes a folder"),
            Self::Symlink { .. } | Self::Hardlink { .. } => (Rung::Write, "it makes a link"),
            Self::CopyData { .. } => (Rung::Write, "it writes a file that it names"),
            Self::Extension { .. } => (Rung::Destructive, "what it does is not known"),
            Self::SetAttributes { attributes, .. } => setting(*attributes),
        }
    }
}

/// What is made gets these; how long it is says nothing of what is made anew.
fn making(attributes: Attributes, what: &'static str) -> (Rung, &'static str) {
    let found = setting(Attributes { size: None, ..attributes });
    if found.0 > Rung::Write { found } else { (Rung::Write, what) }
}

fn setting(attributes: Attributes) -> (Rung, &'static str) {
    if attributes.size.is_some() {
        (Rung::Destructive, "it cuts a file")
    } else if attributes.owner.is_some() {
        (Rung::Destructive, "it changes whose a file is")
    } else if attributes.permissions.is_some_and(|mode| mode & 0o6000 != 0) {
        (Rung::Destructive, "it lets a program run with its owner's rights")
    } else if attributes.extended > 0 {
        (Rung::Destructive, "it sets attributes that are not read")
    } else {
        (Rung::Write, "it sets attributes of a file that it names")
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Open { path, flags, attributes } => {
                write!(f, " {} ({flags}", shown(path))?;
                if flags.changes() && *attributes != Attributes::default() {
                    write!(f, ", {attributes}")?;
                }
                f.write_str(")")
            }
            Self::MakeDirectory { path, attributes } if *attributes != Attributes::default() => {
                write!(f, " {} ({attributes})", shown(path))
            }
            Self::OpenDirectory { path }
            | Self::Remove { path }
            | Self::RemoveDirectory { path }
            | Self::ReadLink { path }
            | Self::MakeDirectory { path, .. } => write!(f, " {}", shown(path)),
            Self::SetAttributes { path, attributes, .. } => {
                write!(f, " {} ({attributes})", shown(path))
            }
            Self::Rename { from, to, .. } | Self::Hardlink { from, to } => {
                write!(f, " {} {}", shown(from), shown(to))
            }
            Self::Symlink { target, link } => write!(f, " {} {}", shown(target), shown(link)),
            Self::CopyData { from, to, .. } => write!(f, " {} {}", shown(from), shown(to)),
            Self::Extension { name, data } => write!(f, " {} ({} bytes)", shown(name), data.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p1_what_is_made_with_its_owners_rights_is_destructive_and_shown() {
        let open = |permissions, size| Operation::Open {
            path: b"/x".to_vec(),
            flags: OpenFlags { write: true, create: true, ..OpenFlags::default() },
            attributes: Attributes { size, permissions, ..Attributes::default() },
        };
        assert_eq!(open(Some(0o755), Some(7)).rung().0, Rung::Write);
        assert_eq!(open(Some(0o4755), None).rung().0, Rung::Destructive);
        assert!(open(Some(0o4755), None).to_string().contains("mode 4755"));
        let folder = |permissions| Operation::MakeDirectory {
            path: b"/x".to_vec(),
            attributes: Attributes { permissions, ..Attributes::default() },
        };
        assert_eq!(folder(Some(0o2775)).rung().0, Rung::Destructive);
        assert_eq!(folder(None).rung().0, Rung::Write);
    }
}
