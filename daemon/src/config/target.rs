//! `[[target]]`: what is watched, and how the daemon speaks to it.
//!
//! Does not belong here: its `credential` and its `tls`, which have files of their own.

use std::{collections::HashSet, path::PathBuf};

use chaperone_model::{AgentName, Protocol, TargetName};
use chaperone_policy::{Fallback, Mode};
use chaperone_wire::{postgres::is_setting, ssh::Known};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use toml::{Spanned, Value};

use super::{Agent, Misplaced, named, rule::strings, through};
use crate::addresses::TargetAddress;

mod credential;
mod tls;

pub(crate) use credential::Credential;
use credential::{OneOrMany, RawCredential, guards_credentials, keeps_passwords};
pub(crate) use tls::{ClientIdentity, Roots, TargetTls, TlsMode};
use tls::{RawTls, RawTlsOrMode};

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
            RawTls::of(TlsMode::Disable).check(0..0)?
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
