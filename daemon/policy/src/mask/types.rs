//! Which types can be masked, by the OIDs that PostgreSQL fixes (`pg_type.dat`).
//!
//! Types of extensions and of the database itself have OIDs of their own and are not here: the
//! caller may pass the OID of what they are written like.

use super::{Detector, Detectors, Format, Look};

/// The first number that is not of a type of PostgreSQL's own (`FirstNormalObjectId`,
/// `src/include/access/transam.h`).
const FIRST_OF_USERS: u32 = 16_384;

/// How values of a type are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Scalar(Kind),
    /// With the OID of its elements.
    Array(u32),
    Range(Kind),
    Record,
}

/// The scalar types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Text,
    /// Blanks at its end do not count.
    Bpchar,
    /// At most 63 bytes.
    Name,
    Json,
    Jsonb,
    Xml,
    Uuid,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Bool,
    Date,
    Timestamp,
    Timestamptz,
    Time,
    Timetz,
    Interval,
    Bytea,
    Inet,
    Cidr,
    Macaddr,
}

/// Whether it is a type of PostgreSQL's own. 0 is a type that nobody named.
pub(super) fn is_own(oid: u32) -> bool {
    (1..FIRST_OF_USERS).contains(&oid)
}

/// What has to be looked at of values of a type to know that none of these is in them.
pub(super) fn look(oid: u32, format: Format, detectors: Detectors) -> Look {
    let only = |of: &[Detector], look| if detectors.any(of) { look } else { Look::Never };
    let written = if format == Format::Text { Look::Bytes } else { Look::Value };
    match shape(oid) {
        Some(Shape::Scalar(kind)) => match kind {
            Kind::Json | Kind::Jsonb => Look::Escaped,
            // In text it is in hexadecimal.
            Kind::Bytea if format == Format::Text => Look::Value,
            Kind::Text | Kind::Bpchar | Kind::Name | Kind::Xml | Kind::Bytea => Look::Bytes,
            Kind::Int8 | Kind::Float8 | Kind::Numeric => only(&[Detector::Card], written),
            Kind::Inet | Kind::Cidr => only(&[Detector::Ipv4, Detector::Ipv6], written),
            Kind::Bool
            | Kind::Int2
            | Kind::Int4
            | Kind::Float4
            | Kind::Date
            | Kind::Timestamp
            | Kind::Timestamptz
            | Kind::Time
            | Kind::Timetz
            | Kind::Interval
            | Kind::Uuid
            | Kind::Macaddr => Look::Never,
        },
        Some(Shape::Array(element)) => match look(element, format, detectors) {
            Look::Never => Look::Never,
            // What is found has no quotes or backslashes in it, so that no array can hide it.
            Look::Bytes if format == Format::Text => Look::Bytes,
            _ => Look::Value,
        },
        Some(Shape::Record) if format == Format::Binary => Look::Value,
        None if format == Format::Binary && !is_own(oid) => Look::Value,
        Some(Shape::Record) => Look::Escaped,
        None if !is_own(oid) => Look::Escaped,
        Some(Shape::Range(_)) | None => Look::Bytes,
    }
}

/// `None` for a type that is not known.
pub(super) fn shape(oid: u32) -> Option<Shape> {
    if let Some(kind) = kind(oid) {
        return Some(Shape::Scalar(kind));
    }
    Some(match oid {
        2249 => Shape::Record,
        3906 => Shape::Range(Kind::Numeric),
        3904 => Shape::Range(Kind::Int4),
        3908 => Shape::Range(Kind::Timestamp),
        3910 => Shape::Range(Kind::Timestamptz),
        3912 => Shape::Range(Kind::Date),
        3926 => Shape::Range(Kind::Int8),
        _ => Shape::Array(element(oid)?),
    })
}

fn kind(oid: u32) -> Option<Kind> {
    Some(match oid {
        16 => Kind::Bool,
        17 => Kind::Bytea,
        19 => Kind::Name,
        20 => Kind::Int8,
        21 => Kind::Int2,
        23 => Kind::Int4,
        // text, unknown, varchar
        25 | 705 | 1043 => Kind::Text,
        114 => Kind::Json,
        142 => Kind::Xml,
        650 => Kind::Cidr,
        700 => Kind::Float4,
        701 => Kind::Float8,
        829 => Kind::Macaddr,
        869 => Kind::Inet,
        1042 => Kind::Bpchar,
        1082 => Kind::Date,
        1083 => Kind::Time,
        1114 => Kind::Timestamp,
        1184 => Kind::Timestamptz,
        1186 => Kind::Interval,
        1266 => Kind::Timetz,
        1700 => Kind::Numeric,
        2950 => Kind::Uuid,
        3802 => Kind::Jsonb,
        _ => return None,
    })
}

fn element(array: u32) -> Option<u32> {
    Some(match array {
        143 => 142,
        199 => 114,
        651 => 650,
        1000 => 16,
        1001 => 17,
        1003 => 19,
        1005 => 21,
        1007 => 23,
        1009 => 25,
        1014 => 1042,
        1015 => 1043,
        1016 => 20,
        1021 => 700,
        1022 => 701,
        1040 => 829,
        1041 => 869,
        1115 => 1114,
        1182 => 1082,
        1183 => 1083,
        1185 => 1184,
        1187 => 1186,
        1231 => 1700,
        1270 => 1266,
        2287 => 2249,
        2951 => 2950,
        3807 => 3802,
        3905 => 3904,
        3907 => 3906,
        3909 => 3908,
        3911 => 3910,
        3913 => 3912,
        3927 => 3926,
        _ => return None,
    })
}
