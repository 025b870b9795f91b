//! A client's requests (sections 4 to 6 and 8, and OpenSSH's extensions).

use super::{
    attributes::{Attributes, OpenFlags},
    frame::{Body, Violation},
    operation::Operation,
};

/// Types of a client's packets.
pub(super) mod kind {
    pub(in super::super) const INIT: u8 = 1;
    pub(in super::super) const OPEN: u8 = 3;
    pub(in super::super) const CLOSE: u8 = 4;
    pub(in super::super) const READ: u8 = 5;
    pub(in super::super) const WRITE: u8 = 6;
    pub(in super::super) const LSTAT: u8 = 7;
    pub(in super::super) const FSTAT: u8 = 8;
    pub(in super::super) const SETSTAT: u8 = 9;
    pub(in super::super) const FSETSTAT: u8 = 10;
    pub(in super::super) const OPENDIR: u8 = 11;
    pub(in super::super) const READDIR: u8 = 12;
    pub(in super::super) const REMOVE: u8 = 13;
    pub(in super::super) const MKDIR: u8 = 14;
    pub(in super::super) const RMDIR: u8 = 15;
    pub(in super::super) const REALPATH: u8 = 16;
    pub(in super::super) const STAT: u8 = 17;
    pub(in super::super) const RENAME: u8 = 18;
    pub(in super::super) const READLINK: u8 = 19;
    pub(in super::super) const SYMLINK: u8 = 20;
    pub(in super::super) const EXTENDED: u8 = 200;
}

/// A request other than `WRITE`, which is not read as a whole.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request<'a> {
    /// It is decided.
    Command(Operation),
    /// It is decided, and is about an open file.
    OfHandle(&'a [u8], Attributes),
    /// It is decided, and is about two open files.
    Copy {
        from: &'a [u8],
        from_offset: u64,
        length: u64,
        to: &'a [u8],
        to_offset: u64,
    },
    Close(&'a [u8]),
    Read {
        handle: &'a [u8],
        offset: u64,
        length: u32,
    },
    ReadDirectory(&'a [u8]),
    /// It changes nothing and asks about an open file.
    LookAtHandle(&'a [u8], Reply),
    /// It changes nothing.
    Look(Reply),
}

/// What an answer may be, besides a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// No more than that.
    Status,
    /// `ATTRS`.
    Attributes,
    /// `NAME`.
    Names,
    /// `EXTENDED_REPLY`.
    Extended,
    /// Any that brings no handle and no content: of an extension that is not read.
    Any,
}

/// Reads a whole packet behind its header and number.
pub(super) fn read(kind: u8, mut body: Body<'_>) -> Result<Request<'_>, Violation> {
    let request = match kind {
        kind::OPEN => Request::Command(Operation::Open {
            path: body.path()?,
            flags: OpenFlags::read_from(&mut body)?,
            attributes: Attributes::read(&mut body)?,
        }),
        kind::CLOSE => Request::Close(body.string()?),
        kind::READ => {
            let handle = body.string()?;
            Request::Read { handle, offset: body.u64()?, length: body.u32()? }
        }
        kind::LSTAT | kind::STAT => {
            body.path()?;
            Request::Look(Reply::Attributes)
        }
        kind::FSTAT => Request::LookAtHandle(body.string()?, Reply::Attributes),
        kind::SETSTAT => Request::Command(Operation::SetAttributes {
            path: body.path()?,
            attributes: Attributes::read(&mut body)?,
            follows: true,
        }),
        kind::FSETSTAT => Request::OfHandle(body.string()?, Attributes::read(&mut body)?),
        kind::OPENDIR => Request::Command(Operation::OpenDirectory { path: body.path()? }),
        kind::READDIR => Request::ReadDirectory(body.string()?),
        kind::REMOVE => Request::Command(Operation::Remove { path: body.path()? }),
        kind::MKDIR => Request::Command(Operation::MakeDirectory {
            path: body.path()?,
            attributes: Attributes::read(&mut body)?,
        }),
        kind::RMDIR => Request::Command(Operation::RemoveDirectory { path: body.path()? }),
        kind::REALPATH => {
            body.path()?;
            Request::Look(Reply::Names)
        }
        kind::RENAME => Request::Command(Operation::Rename {
            from: body.path()?,
            to: body.path()?,
            replaces: false,
        }),
        kind::READLINK => Request::Command(Operation::ReadLink { path: body.path()? }),
        kind::SYMLINK => {
            Request::Command(Operation::Symlink { target: body.path()?, link: body.path()? })
        }
        kind::EXTENDED => extended(&mut body)?,
        kind => return Err(Violation::Unexpected { kind, place: "in version 3" }),
    };
    body.end()?;
    Ok(request)
}

fn extended<'a>(body: &mut Body<'a>) -> Result<Request<'a>, Violation> {
    Ok(match body.string()? {
        b"posix-rename@openssh.com" => Request::Command(Operation::Rename {
            from: body.path()?,
            to: body.path()?,
            replaces: true,
        }),
        b"hardlink@openssh.com" => {
            Request::Command(Operation::Hardlink { from: body.path()?, to: body.path()? })
        }
        b"lsetstat@openssh.com" => Request::Command(Operation::SetAttributes {
            path: body.path()?,
            attributes: Attributes::read(body)?,
            follows: false,
        }),
        b"copy-data" => Request::Copy {
            from: body.string()?,
            from_offset: body.u64()?,
            length: body.u64()?,
            to: body.string()?,
            to_offset: body.u64()?,
        },
        b"statvfs@openssh.com" => {
            body.path()?;
            Request::Look(Reply::Extended)
        }
        b"fstatvfs@openssh.com" => Request::LookAtHandle(body.string()?, Reply::Extended),
        // It makes lasting what was written, no more.
        b"fsync@openssh.com" => Request::LookAtHandle(body.string()?, Reply::Status),
        b"limits@openssh.com" => Request::Look(Reply::Extended),
        b"expand-path@openssh.com" | b"home-directory" => {
            body.path()?;
            Request::Look(Reply::Names)
        }
        b"users-groups-by-id@openssh.com" => {
            body.string()?;
            body.string()?;
            Request::Look(Reply::Extended)
        }
        name => {
            let data = body.take_rest().to_vec();
            Request::Command(Operation::Extension { name: name.to_vec(), data })
        }
    })
}
