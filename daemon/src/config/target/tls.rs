//! `tls` of a target: how the daemon's own connections are encrypted.

use std::{fmt, ops::Range, path::PathBuf, str::FromStr};

use rustls::pki_types::ServerName;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value},
};
use toml::Spanned;

use super::super::{Misplaced, absolute};
use crate::secret::Source;

/// The daemon's connections to a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TargetTls {
    pub(crate) mode: TlsMode,
    pub(crate) roots: Roots,
    /// The name in the server's certificate, where the address does not say it.
    pub(crate) name: Option<ServerName<'static>>,
    pub(crate) identity: Option<ClientIdentity>,
}

/// As libpq's `sslmode` (libpq-ssl, "SSL Mode Descriptions").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TlsMode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

impl TlsMode {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }

    /// Whether the server has proven who it is.
    pub(crate) fn verifies(self) -> bool {
        matches!(self, Self::VerifyCa | Self::VerifyFull)
    }
}

/// Who may vouch for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Roots {
    System,
    File(PathBuf),
}

/// What the daemon shows where a server asks for a client certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientIdentity {
    pub(crate) certificate: PathBuf,
    pub(crate) key: Source,
}

/// `tls = "require"` or `tls = { mode = "require", … }`.
pub(super) struct RawTlsOrMode(RawTls, pub(super) Range<usize>);

impl RawTlsOrMode {
    pub(super) fn check(self) -> Result<TargetTls, Misplaced> {
        self.0.check(self.1)
    }
}

impl<'de> Deserialize<'de> for RawTlsOrMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = RawTls;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a mode such as \"verify-full\", or a table with one")
            }

            fn visit_str<E: serde::de::Error>(self, mode: &str) -> Result<RawTls, E> {
                let mode = TlsMode::deserialize(value::StrDeserializer::new(mode))?;
                Ok(RawTls::of(mode))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawTls, A::Error> {
                RawTls::deserialize(value::MapAccessDeserializer::new(map))
            }
        }
        struct Wrapped(RawTls);
        impl<'de> Deserialize<'de> for Wrapped {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(Either).map(Self)
            }
        }
        let spanned = Spanned::<Wrapped>::deserialize(deserializer)?;
        let span = spanned.span();
        Ok(Self(spanned.into_inner().0, span))
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTls {
    mode: Option<TlsMode>,
    ca: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<String>>,
}

impl RawTls {
    pub(super) fn of(mode: TlsMode) -> Self {
        Self { mode: Some(mode), ..Self::default() }
    }

    pub(super) fn check(self, span: Range<usize>) -> Result<TargetTls, Misplaced> {
        let mode = self.mode.unwrap_or(TlsMode::VerifyFull);
        let roots = match self.ca {
            Some(ca) if !mode.verifies() => {
                let message = format!(
                    "mode {:?} verifies nothing, so that a `ca` has no use: \"verify-ca\" or \"verify-full\" does",
                    mode.as_str()
                );
                return Err((ca.span(), message));
            }
            None => Roots::System,
            Some(ca) if ca.get_ref() == "system" => Roots::System,
            Some(ca) if ca.get_ref().starts_with('/') => Roots::File(ca.into_inner().into()),
            Some(ca) => {
                return Err((ca.span(), "ca is \"system\" or a path that begins with '/'".into()));
            }
        };
        let name = match self.name {
            Some(name) if mode != TlsMode::VerifyFull => {
                return Err((name.span(), "only mode \"verify-full\" looks at names".into()));
            }
            Some(name) => {
                let parsed = ServerName::try_from(name.get_ref().clone());
                Some(parsed.map_err(|_| {
                    (name.span(), format!("{:?} is no host name or address", name.get_ref()))
                })?)
            }
            None => None,
        };
        let identity = identity(self.certificate, self.key)?;
        if mode == TlsMode::Disable && identity.is_some() {
            return Err((span, "without TLS a client certificate has no use".into()));
        }
        Ok(TargetTls { mode, roots, name, identity })
    }
}

pub(super) fn identity(
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<String>>,
) -> Result<Option<ClientIdentity>, Misplaced> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let certificate = absolute(Some(certificate), "")?;
            Ok(Some(ClientIdentity { certificate, key: source(&key)? }))
        }
        (Some(certificate), None) => {
            Err((certificate.span(), "a certificate needs its `key`".into()))
        }
        (None, Some(key)) => Err((key.span(), "a key needs its `certificate`".into())),
    }
}

pub(super) fn source(text: &Spanned<String>) -> Result<Source, Misplaced> {
    Source::from_str(text.get_ref()).map_err(|message| (text.span(), message))
}
