//! `[[target]]`: what is watched, and how the daemon speaks to it.

use std::{collections::HashSet, fmt, ops::Range, path::PathBuf, str::FromStr};

use chaperone_model::{AgentName, Protocol, TargetName};
use chaperone_policy::{Fallback, Mode};
use chaperone_wire::{
    postgres::{Method, is_setting},
    ssh::Known,
};
use rustls::pki_types::ServerName;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor, value},
};
use toml::{Spanned, Value};

use super::{Agent, Misplaced, named, rule::strings, through};
use crate::{addresses::TargetAddress, secret::Source};

#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) name: TargetName,
    pub(crate) protocol: Protocol,
    pub(crate) addresses: Vec<TargetAddress>,
    /// The targets in whose SSH sessions agents reach it: its addresses are as they see them. Where
    /// there are none, they are as this host sees them.
    pub(crate) through: Vec<TargetName>,
    /// Unix sockets of its server: paths, and names that begin with `@`.
    pub(crate) sockets: Vec<String>,
    pub(crate) tls: TargetTls,
    pub(crate) agent_tls: AgentTls,
    /// Of an SSH target: which host keys are believed.
    pub(crate) host_keys: Vec<HostKeys>,
    /// Where there is none, agents sign on themselves.
    pub(crate) credentials: Vec<Credential>,
    pub(crate) replication: bool,
    /// Settings that a session may start with, beside those that do no harm.
    pub(crate) parameters: Vec<String>,
    /// Whether the server is told by `application_name` who it is.
    pub(crate) attribution: bool,
    /// Whether verdicts are carried out.
    pub(crate) policy_mode: Mode,
}

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

/// Whether agents' connections are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AgentTls {
    /// Where the agent's client wants it.
    #[default]
    Offer,
    /// A session without it is refused.
    Require,
    /// Never.
    Refuse,
}

/// Where host keys of an SSH target are known from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostKeys {
    /// A file in the format of `known_hosts`.
    File(PathBuf),
    /// A key, or an authority's.
    Key(String),
    /// Where nothing is known of a host, the key that it shows first.
    FirstUse,
}

/// Where they are known from, where the target does not say it.
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";

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

impl Target {
    /// The credential for an agent. `Err` where the target has some, and none for this one.
    pub(crate) fn credential(&self, agent: &AgentName) -> Result<Option<usize>, NoCredential> {
        if self.credentials.is_empty() {
            return Ok(None);
        }
        let names = |c: &Credential| c.agents.as_ref().is_some_and(|all| all.contains(agent));
        self.credentials
            .iter()
            .position(names)
            .or_else(|| self.credentials.iter().position(|c| c.agents.is_none()))
            .map(Some)
            .ok_or(NoCredential)
    }
}

/// The target's credentials are for other agents.
#[derive(Debug)]
pub(crate) struct NoCredential;

/// What holds where no rule matches.
type Defaults = Vec<(TargetName, Fallback, Mode)>;

/// Checks all targets, against the agents that they may name.
pub(super) fn check(raw: Vec<Raw>, agents: &[Agent]) -> Result<(Vec<Target>, Defaults), Misplaced> {
    let mut names = HashSet::new();
    let mut places = through::Taken::default();
    let (mut targets, mut defaults, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    for target in raw {
        let name = named(&target.name).map_err(|m| (target.name.span(), m))?;
        if !names.insert(name.clone()) {
            return Err((target.name.span(), format!("there is another target named {name:?}")));
        }
        let protocol = target.protocol.get_ref().parse().map_err(|()| {
            let message = format!(
                "protocol {:?} is not known: use \"postgres\" or \"ssh\"",
                target.protocol.get_ref()
            );
            (target.protocol.span(), message)
        })?;
        if target.address.get_ref().is_empty() {
            return Err((target.address.span(), "a target needs at least one address".into()));
        }
        let through = through::named(target.through.as_ref())?;
        spans.push(target.through.as_ref().map_or(target.name.span(), Spanned::span));
        let mut addresses = Vec::new();
        for address in target.address.get_ref() {
            let parsed: TargetAddress =
                address.get_ref().parse().map_err(|m: String| (address.span(), m))?;
            if !places.take(&through, &parsed) {
                return Err((address.span(), format!("{parsed} is watched twice")));
            }
            addresses.push(parsed);
        }
        let is_ssh = protocol == Protocol::Ssh;
        if is_ssh && let Some(tls) = &target.tls {
            return Err((
                tls.1.clone(),
                "SSH has no TLS: say which `host_keys` are believed".into(),
            ));
        }
        let host_keys = match (&target.host_keys, is_ssh) {
            (Some(keys), false) => {
                return Err((keys.span(), "`host_keys` are for targets that speak SSH".into()));
            }
            (None, false) => Vec::new(),
            (keys, true) => host_keys(keys.as_ref())?,
        };
        let tls = if is_ssh {
            RawTls { mode: Some(TlsMode::Disable), ..RawTls::default() }.check(0..0)?
        } else {
            target.tls.map_or_else(|| RawTls::default().check(0..0), RawTlsOrMode::check)?
        };
        if tls.mode == TlsMode::VerifyFull && tls.name.is_none() {
            let hosts: Vec<_> = addresses.iter().filter_map(TargetAddress::name).collect();
            let say = "Say so by tls = { mode = \"verify-full\", name = \"…\" }";
            let why = match hosts.as_slice() {
                [] => None,
                [one] => ServerName::try_from(*one).is_err().then_some(
                    "this name cannot be in a certificate: which name is in the server's?",
                ),
                _ => Some("which of these names is in the server's certificate?"),
            };
            if let Some(why) = why {
                return Err((target.address.span(), format!("{why} {say}")));
            }
        }
        if target.credential.is_some() && !is_ssh {
            guards_credentials(&tls, &addresses)
                .map_err(|message| (target.address.span(), message))?;
        }
        if target.credential.as_ref().is_some_and(|all| all.0.is_empty()) {
            let message = "credential lists none: leave it out where agents sign on themselves";
            return Err((target.name.span(), message.into()));
        }
        let mut credentials: Vec<Credential> = Vec::new();
        for raw in target.credential.map(|all| all.0).unwrap_or_default() {
            let span = raw.span();
            let credential = raw.into_inner().check(&tls, agents, is_ssh)?;
            let twice = credentials.iter().any(|other| match (&other.agents, &credential.agents) {
                (None, None) => true,
                (Some(a), Some(b)) => a.iter().any(|name| b.contains(name)),
                _ => false,
            });
            if twice {
                return Err((
                    span,
                    "another credential of this target is for the same agent".into(),
                ));
            }
            credentials.push(credential);
        }
        keeps_passwords(&host_keys, &addresses, &credentials)
            .map_err(|message| (target.address.span(), message))?;
        let mut parameters = Vec::new();
        for name in target.parameters {
            if !is_setting(name.get_ref()) {
                let message = format!(
                    "{:?} is the name of no setting that a session could start with",
                    name.get_ref()
                );
                return Err((name.span(), message));
            }
            parameters.push(name.into_inner());
        }
        let mut sockets = Vec::new();
        for socket in target.sockets {
            if !through.is_empty() {
                let message =
                    "`sockets` are this host's, and a target behind another is on none of it";
                return Err((socket.span(), message.into()));
            }
            is_socket(socket.get_ref()).map_err(|message| (socket.span(), message))?;
            sockets.push(socket.into_inner());
        }
        let name = TargetName(name.into());
        let mode = target.mode.into();
        defaults.push((name.clone(), target.default.into(), mode));
        targets.push(Target {
            name,
            protocol,
            addresses,
            through,
            sockets,
            tls,
            agent_tls: target.agent_tls,
            host_keys,
            credentials,
            replication: target.replication,
            parameters,
            attribution: target.attribution,
            policy_mode: mode,
        });
    }
    through::check(&targets, &spans)?;
    Ok((targets, defaults))
}

/// Whether the daemon's own credential goes only to servers that operations mean: not to one that
/// an agent chose.
fn guards_credentials(tls: &TargetTls, addresses: &[TargetAddress]) -> Result<(), String> {
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

/// A Unix socket's path or abstract name, as far as one can be bound to it (unix(7)).
fn is_socket(name: &str) -> Result<(), String> {
    const LONGEST: usize = chaperone_kernel::UNIX_NAME - 1;
    let rest = name.strip_prefix(['/', '@']).unwrap_or_default();
    if rest.is_empty() || name.contains('\0') {
        return Err(
            "a socket is a path such as \"/run/postgresql/.s.PGSQL.5432\", or a name that begins with @"
                .into(),
        );
    }
    if name.len() > LONGEST {
        return Err(format!("a socket's name has at most {LONGEST} bytes"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    protocol: Spanned<String>,
    address: Spanned<Vec<Spanned<String>>>,
    through: Option<Spanned<Value>>,
    #[serde(default)]
    sockets: Vec<Spanned<String>>,
    #[serde(default)]
    default: RawFallback,
    #[serde(default)]
    mode: RawMode,
    tls: Option<RawTlsOrMode>,
    #[serde(default)]
    agent_tls: AgentTls,
    host_keys: Option<Spanned<Value>>,
    credential: Option<OneOrMany<Spanned<RawCredential>>>,
    #[serde(default)]
    replication: bool,
    #[serde(default)]
    parameters: Vec<Spanned<String>>,
    #[serde(default = "yes")]
    attribution: bool,
}

fn yes() -> bool {
    true
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawFallback {
    #[default]
    Allow,
    Deny,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawMode {
    #[default]
    Enforce,
    Observe,
}

impl From<RawMode> for Mode {
    fn from(raw: RawMode) -> Self {
        match raw {
            RawMode::Enforce => Self::Enforce,
            RawMode::Observe => Self::Observe,
        }
    }
}

impl From<RawFallback> for Fallback {
    fn from(raw: RawFallback) -> Self {
        match raw {
            RawFallback::Allow => Self::Allow,
            RawFallback::Deny => Self::Deny,
        }
    }
}

/// `tls = "require"` or `tls = { mode = "require", … }`.
struct RawTlsOrMode(RawTls, Range<usize>);

impl RawTlsOrMode {
    fn check(self) -> Result<TargetTls, Misplaced> {
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
                Ok(RawTls { mode: Some(mode), ..RawTls::default() })
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
struct RawTls {
    mode: Option<TlsMode>,
    ca: Option<Spanned<String>>,
    name: Option<Spanned<String>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<String>>,
}

impl RawTls {
    fn check(self, span: Range<usize>) -> Result<TargetTls, Misplaced> {
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

fn identity(
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<String>>,
) -> Result<Option<ClientIdentity>, Misplaced> {
    match (certificate, key) {
        (None, None) => Ok(None),
        (Some(certificate), Some(key)) => {
            let certificate = super::absolute(Some(certificate), "")?;
            Ok(Some(ClientIdentity { certificate, key: source(&key)? }))
        }
        (Some(certificate), None) => {
            Err((certificate.span(), "a certificate needs its `key`".into()))
        }
        (None, Some(key)) => Err((key.span(), "a key needs its `certificate`".into())),
    }
}

fn source(text: &Spanned<String>) -> Result<Source, Misplaced> {
    Source::from_str(text.get_ref()).map_err(|message| (text.span(), message))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredential {
    agents: Option<Spanned<Vec<Spanned<String>>>>,
    user: Spanned<String>,
    password: Option<Spanned<String>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<String>>,
    authority: Option<Spanned<String>>,
    methods: Option<Vec<Spanned<String>>>,
}

impl RawCredential {
    fn check(
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

fn host_keys(raw: Option<&Spanned<Value>>) -> Result<Vec<HostKeys>, Misplaced> {
    let Some(raw) = raw else { return Ok(vec![HostKeys::File(KNOWN_HOSTS.into())]) };
    let all = strings(raw)?;
    if all.is_empty() {
        return Err((raw.span(), "this believes no host: name a file, or keys".into()));
    }
    let one = |text: String| {
        if text == "first-use" {
            return Ok(HostKeys::FirstUse);
        }
        if text.starts_with('/') {
            return Ok(HostKeys::File(text.into()));
        }
        Known::default().add_key(&text).map_err(|error| {
            let message = format!(
                "{text:?} is neither a file's path, nor \"first-use\", nor a key such as \"ssh-ed25519 AAAA…\" or \"cert-authority ssh-ed25519 AAAA…\": {error}"
            );
            (raw.span(), message)
        })?;
        Ok(HostKeys::Key(text))
    };
    all.into_iter().map(one).collect()
}

/// Whether a password of the daemon's would go to whatever server an agent chooses.
fn keeps_passwords(
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
struct OneOrMany<T>(Vec<T>);

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
