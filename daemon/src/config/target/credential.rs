//! `credential` of a target: what the daemon signs on with, and where it may go.

use std::{fmt, path::PathBuf};

use chaperone_model::AgentName;
use chaperone_wire::postgres::Method;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value},
};
use toml::Spanned;

use super::{
    super::{Agent, Misplaced},
    ClientIdentity, HostKeys, Roots, TargetTls, TlsMode,
    tls::{identity, source},
};
use crate::{addresses::TargetAddress, secret::Source};

/// What the daemon signs on with.
#[derive(Clone, Debug)]
pub(crate) struct Credential {
    /// For whom; `None` for all that no other credential names.
    pub(crate) agents: Option<Vec<AgentName>>,
    pub(crate) user: String,
    pub(crate) password: Option<Source>,
    pub(crate) identity: Option<ClientIdentity>,
    /// A private key, in OpenSSH's format.
    pub(crate) key: Option<Source>,
    /// A private key of an authority that the target trusts to name users (`TrustedUserCAKeys`).
    pub(crate) authority: Option<Source>,
    pub(crate) methods: Vec<Method>,
}

/// Whether the daemon's own credential goes only to servers that operations mean: not to one that
/// an agent chose.
pub(super) fn guards_credentials(
    tls: &TargetTls,
    addresses: &[TargetAddress],
) -> Result<(), String> {
    if tls.mode == TlsMode::VerifyCa && tls.roots == Roots::System {
        return Err(
            "with a credential, mode \"verify-ca\" needs the file of an authority of your own as `ca`: any certificate that the public can buy would do. Or use \"verify-full\"".into(),
        );
    }
    let Some(wide) = addresses.iter().find(|address| address.is_wide()) else { return Ok(()) };
    if !tls.mode.verifies() {
        return Err(format!(
            "the credential would be used with whatever server an agent chooses in {wide}, because mode {:?} verifies none: use \"verify-full\", or name the servers' addresses one by one",
            tls.mode.as_str()
        ));
    }
    let named = tls.name.is_some() || addresses.iter().any(|address| address.name().is_some());
    if tls.mode == TlsMode::VerifyFull && !named {
        return Err(format!(
            "the credential would be used with whatever server an agent chooses in {wide}, as long as its certificate is for its address. Say which name is in the servers' by tls = {{ mode = \"verify-full\", name = \"…\" }}"
        ));
    }
    Ok(())
}

/// Whether a password of the daemon's would go to whatever server an agent chooses.
pub(super) fn keeps_passwords(
    host_keys: &[HostKeys],
    addresses: &[TargetAddress],
    credentials: &[Credential],
) -> Result<(), String> {
    let wide = addresses.iter().find(|address| address.is_wide());
    let has_password = credentials.iter().any(|credential| credential.password.is_some());
    match wide {
        Some(wide) if has_password && host_keys.contains(&HostKeys::FirstUse) => Err(format!(
            "the password would go to whatever server an agent chooses in {wide}, because \"first-use\" believes any: name the servers' addresses one by one, or their keys"
        )),
        _ => Ok(()),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCredential {
    agents: Option<Spanned<Vec<Spanned<String>>>>,
    user: Spanned<String>,
    password: Option<Spanned<String>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<String>>,
    authority: Option<Spanned<String>>,
    methods: Option<Vec<Spanned<String>>>,
}

impl RawCredential {
    pub(super) fn check(
        self,
        tls: &TargetTls,
        agents: &[Agent],
        is_ssh: bool,
    ) -> Result<Credential, Misplaced> {
        let mut named = None;
        if let Some(agents) = &self.agents
            && agents.get_ref().is_empty()
        {
            // It must not be taken for a credential that is for all.
            let message = "this names no agent: leave `agents` out for all that no other \
                           credential names";
            return Err((agents.span(), message.into()));
        }
        for name in self.agents.into_iter().flat_map(Spanned::into_inner) {
            let found = agents.iter().find(|agent| *agent.name.0 == **name.get_ref());
            let Some(found) = found else {
                let message = format!("there is no agent named {:?}", name.get_ref());
                return Err((name.span(), message));
            };
            named.get_or_insert_with(Vec::new).push(found.name.clone());
        }
        if self.user.get_ref().is_empty() || self.user.get_ref().contains('\0') {
            return Err((self.user.span(), "a user has a name".into()));
        }
        let certificate_span = self.certificate.as_ref().map(Spanned::span);
        if !is_ssh && let Some(authority) = &self.authority {
            return Err((authority.span(), "an authority is for targets that speak SSH".into()));
        }
        let (mut key, authority) = (None, self.authority.as_ref().map(source).transpose()?);
        let identity = if is_ssh {
            if let Some(span) = certificate_span {
                let message = "certificates are made for each session: say by whom, as `authority`";
                return Err((span, message.into()));
            }
            key = self.key.as_ref().map(source).transpose()?;
            if key.is_none() && authority.is_none() && self.password.is_none() {
                let message = "with what? Say so by key, authority or password";
                return Err((self.user.span(), message.into()));
            }
            None
        } else {
            identity(self.certificate, self.key)?
        };
        if let Some(span) = certificate_span
            && tls.mode == TlsMode::Disable
        {
            return Err((span, "without TLS a client certificate has no use".into()));
        }
        let password = self.password.as_ref().map(source).transpose()?;
        let mut methods = Vec::new();
        for name in self.methods.iter().flatten() {
            let known = Method::ALL.iter().find(|(known, _)| known == name.get_ref());
            let Some((_, method)) = known else {
                let all = Method::ALL.map(|(name, _)| format!("{name:?}")).join(", ");
                return Err((name.span(), format!("a method is one of {all}")));
            };
            methods.push(*method);
        }
        if self.methods.as_ref().is_some_and(Vec::is_empty) {
            let message = "methods allows none, so that no sign-on could succeed: leave it out";
            return Err((self.user.span(), message.into()));
        }
        if self.methods.is_none() {
            methods = default_methods(password.is_some(), tls.mode);
        }
        Ok(Credential {
            agents: named,
            user: self.user.into_inner(),
            password,
            identity,
            key,
            authority,
            methods,
        })
    }
}

/// How a server may be satisfied where operations do not say. What it could make use of, were it
/// another than it seems to be, needs that it has proven who it is.
fn default_methods(password: bool, mode: TlsMode) -> Vec<Method> {
    match (password, mode) {
        (false, _) => vec![Method::None],
        (true, TlsMode::VerifyFull) => vec![Method::Scram, Method::Md5, Method::Password],
        (true, TlsMode::VerifyCa) => vec![Method::Scram, Method::Md5],
        (true, TlsMode::Disable | TlsMode::Prefer | TlsMode::Require) => vec![Method::Scram],
    }
}

/// A table, or an array of tables.
pub(super) struct OneOrMany<T>(pub(super) Vec<T>);

impl<'de> Deserialize<'de> for OneOrMany<Spanned<RawCredential>> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = OneOrMany<Spanned<RawCredential>>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a credential, or a list of them")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                let one = RawCredential::deserialize(value::MapAccessDeserializer::new(map))?;
                Ok(OneOrMany(vec![Spanned::new(0..0, one)]))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut all = Vec::new();
                while let Some(one) = seq.next_element()? {
                    all.push(one);
                }
                Ok(OneOrMany(all))
            }
        }
        deserializer.deserialize_any(Either)
    }
}
