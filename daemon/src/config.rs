//! The configuration: parsed into a type that cannot be wrong.
//!
//! Unknown keys are refused, nothing falls back, and every error points at its place.

use std::{
    fmt::Write,
    fs,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chaperone_kernel::{Host, kinds};
use chaperone_policy::{Approver, Policy};
use serde::Deserialize;
use sha2::{Digest, Sha256};
use toml::Spanned;

use crate::{outbound::is_guarded, secret::Source};

mod agent;
mod anchor;
mod diagnostic;
mod durability;
mod evidence;
mod export;
mod lint;
mod mask;
mod rule;
mod target;
#[cfg(test)]
pub(crate) mod tests;
mod through;

pub(crate) use agent::{Agent, Binaries, Scope, VersionRule, image as image_digest};
pub(crate) use anchor::{Anchor, Destination, ObjectStore, Syslog};
use diagnostic::{point_at, suggest};
pub(crate) use durability::{Durability, Safe};
pub(crate) use evidence::Evidence;
pub(crate) use export::Export;
pub(crate) use mask::{Guessing, Mask};
pub(crate) use target::{
    AgentTls, ClientIdentity, Credential, HostKeys, NoCredential, Roots, Target, TlsMode,
};

/// Where the configuration is, where nothing else is said.
pub(crate) const DEFAULT_PATH: &str = "/etc/chaperone/chaperone.toml";

/// Where the control socket is, where nothing else is said.
pub(crate) const DEFAULT_CONTROL: &str = "/run/chaperone/control.sock";

/// Where Podman and CRI-O, and Docker, keep their state, where nothing else is said. What is below
/// `/run` is of containers that are gone after a reboot.
const CONTAINER_STORES: [&str; 3] =
    ["/var/lib/containers/storage", "/run/containers/storage", "/var/lib/docker"];

/// A valid configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) daemon: Daemon,
    pub(crate) agents: Vec<Agent>,
    pub(crate) targets: Vec<Target>,
    pub(crate) policy: Policy,
    pub(crate) masks: Vec<Mask>,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) log: Evidence,
    /// Where the log's checkpoints are sent.
    pub(crate) anchors: Vec<Anchor>,
    pub(crate) exports: Vec<Export>,
    /// What is odd about it, though it is valid.
    pub(crate) warnings: Vec<String>,
}

/// Where it is told what waits for a person.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) url: String,
    /// What messages are signed with.
    pub(crate) secret: Option<Source>,
    /// The folder in which messages wait.
    pub(crate) queue: PathBuf,
}

#[derive(Clone, Debug)]
pub(crate) struct Daemon {
    pub(crate) attach: Attach,
    pub(crate) listen: u16,
    pub(crate) pins: PathBuf,
    pub(crate) control: PathBuf,
    pub(crate) log: PathBuf,
    /// The list of enrolled programs.
    pub(crate) enrolled: PathBuf,
    /// Where container engines keep their state.
    pub(crate) container_stores: Vec<PathBuf>,
    /// The folder of the authority that vouches for targets towards agents.
    pub(crate) authority: PathBuf,
    pub(crate) durability: Durability,
    pub(crate) drain: Duration,
    /// How often it is looked whether agents' connections still are taken.
    pub(crate) canary: Duration,
    /// How often an SSH session's connections get new keys, however little passes.
    pub(crate) ssh_rekey: Duration,
    /// Longest message that is held to be read, in bytes.
    pub(crate) max_message: usize,
    /// Of a response that is recorded, in bytes.
    pub(crate) response: usize,
    /// Of a terminal that is recorded, in bytes.
    pub(crate) terminal: usize,
    /// Of a command's parameters that are recorded, in bytes.
    pub(crate) parameters: usize,
    pub(crate) max_sessions: usize,
    /// Of these, for each agent.
    pub(crate) max_sessions_per_agent: usize,
    /// Kinds of socket that agents may not make: of [`chaperone_kernel::kinds`].
    pub(crate) deny_sockets: u32,
    pub(crate) existing: Existing,
}

/// What is done with agents' connections to targets from before the daemon. They are recorded in any
/// case, and the guard lets none of their packets through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Existing {
    /// They are ended.
    #[default]
    Destroy,
    /// They are left as they are.
    Record,
}

/// Kinds of socket by name.
const SOCKET_KINDS: [(&str, u32); 6] = [
    ("sctp", kinds::SCTP),
    ("smc", kinds::SMC),
    ("raw", kinds::RAW),
    ("packet", kinds::PACKET),
    ("vsock", kinds::VSOCK),
    ("mptcp", kinds::MPTCP),
];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attach {
    /// The root of the cgroup v2 tree, from the mount table.
    Auto,
    /// This cgroup.
    Path(PathBuf),
}

/// What is wrong with a configuration, and where.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration {path}: {source}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Wrong(String),
}

impl Config {
    /// Reads and checks a file.
    pub(crate) fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Self::parse(&text, path)
    }

    fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let at = |span: Range<usize>, message: &str| {
            ConfigError::Wrong(point_at(path, text, span, message))
        };
        let file: File = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or(0..0);
            let message = suggest(error.message());
            at(span, &message)
        })?;
        let daemon = file.daemon.check().map_err(|(span, message)| at(span, &message))?;

        let agents = agent::check(file.agent).map_err(|(span, message)| at(span, &message))?;
        let (targets, defaults) =
            target::check(file.target, &agents).map_err(|(span, message)| at(span, &message))?;
        let rules = rule::check(file.rule, &agents, &targets)
            .map_err(|(span, message)| at(span, &message))?;
        let masks = mask::check(file.mask, &agents, &targets)
            .map_err(|(span, message)| at(span, &message))?;
        let warnings = lint::warnings(&rules, &masks, &agents, &targets);
        let rules = rules.into_iter().map(|checked| checked.rule).collect();
        let webhook = file.webhook.map(RawWebhook::check).transpose();
        let webhook = webhook.map_err(|(span, message)| at(span, &message))?;
        let log = file.log.check().map_err(|(span, message)| at(span, &message))?;
        let anchors = anchor::check(file.anchor).map_err(|(span, message)| at(span, &message))?;
        let exports = export::check(file.export).map_err(|(span, message)| at(span, &message))?;
        let mut hash = String::new();
        for byte in Sha256::digest(text.as_bytes()) {
            let _ = write!(hash, "{byte:02x}");
        }
        let policy = Policy::new(hash, defaults, rules);
        Ok(Self {
            daemon,
            agents,
            targets,
            policy,
            masks,
            webhook,
            log,
            anchors,
            exports,
            warnings,
        })
    }

    /// All who may approve something.
    pub(crate) fn approvers(&self) -> impl Iterator<Item = &Approver> {
        let of_masks = self.masks.iter().flat_map(Mask::terms).flat_map(|terms| &terms.approvers);
        self.policy.approvers().chain(of_masks)
    }

    /// The cgroup to attach to.
    pub(crate) fn attach_path(
        &self,
        host: &Host,
    ) -> Result<PathBuf, chaperone_kernel::KernelError> {
        match &self.daemon.attach {
            Attach::Auto => host.cgroup_root(),
            Attach::Path(path) => Ok(path.clone()),
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    daemon: RawDaemon,
    #[serde(default)]
    agent: Vec<agent::Raw>,
    #[serde(default)]
    target: Vec<target::Raw>,
    #[serde(default)]
    rule: Vec<rule::Raw>,
    #[serde(default)]
    mask: Vec<mask::Raw>,
    webhook: Option<RawWebhook>,
    #[serde(default)]
    log: evidence::Raw,
    #[serde(default)]
    anchor: Vec<anchor::Raw>,
    #[serde(default)]
    export: Vec<export::Raw>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawWebhook {
    url: Spanned<String>,
    secret: Option<Spanned<String>>,
    queue: Option<Spanned<PathBuf>>,
}

impl RawWebhook {
    fn check(self) -> Result<Webhook, Misplaced> {
        let url = self.url.get_ref();
        if !is_guarded(url) {
            let message =
                "a webhook is told statements: its url begins with https://, or is on this host";
            return Err((self.url.span(), message.into()));
        }
        let secret = self
            .secret
            .map(|text| text.get_ref().parse().map_err(|message: String| (text.span(), message)))
            .transpose()?;
        Ok(Webhook {
            url: self.url.into_inner(),
            secret,
            queue: absolute(self.queue, "/var/lib/chaperone/webhook")?,
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDaemon {
    attach: Option<Spanned<String>>,
    listen: Option<Spanned<u16>>,
    pins: Option<Spanned<PathBuf>>,
    control: Option<Spanned<PathBuf>>,
    log: Option<Spanned<PathBuf>>,
    authority: Option<Spanned<PathBuf>>,
    enrolled: Option<Spanned<PathBuf>>,
    container_stores: Option<Vec<Spanned<PathBuf>>>,
    #[serde(default)]
    durability: durability::Raw,
    drain: Option<Spanned<String>>,
    canary: Option<Spanned<String>>,
    ssh_rekey: Option<Spanned<String>>,
    max_message: Option<Spanned<String>>,
    response: Option<Spanned<String>>,
    terminal: Option<Spanned<String>>,
    parameters: Option<Spanned<String>>,
    max_sessions: Option<Spanned<usize>>,
    max_sessions_per_agent: Option<Spanned<usize>>,
    deny_sockets: Option<Vec<Spanned<String>>>,
    #[serde(default)]
    existing: Existing,
}

/// A text grows threefold at most where it is no UTF-8, and stays below the log's largest record.
const MAX_MESSAGE: usize = 128 << 20;

type Misplaced = (Range<usize>, String);

impl RawDaemon {
    fn check(self) -> Result<Daemon, Misplaced> {
        let attach = match &self.attach {
            None => Attach::Auto,
            Some(attach) if attach.get_ref() == "auto" => Attach::Auto,
            Some(attach) if attach.get_ref().starts_with('/') => {
                Attach::Path(attach.get_ref().into())
            }
            Some(attach) => {
                return Err((attach.span(), "attach is \"auto\" or the path of a cgroup".into()));
            }
        };
        let listen = match &self.listen {
            Some(port) if *port.get_ref() == 0 => {
                return Err((port.span(), "listen is a port from 1 to 65535".into()));
            }
            Some(port) => *port.get_ref(),
            None => 7400,
        };
        let drain = match &self.drain {
            None => Duration::from_secs(10),
            Some(text) => duration(text, Duration::MAX)?,
        };
        let canary = match &self.canary {
            None => Duration::from_secs(10),
            Some(text) => match duration(text, Duration::from_hours(1))? {
                short if short < Duration::from_secs(1) => {
                    return Err((text.span(), "canary is from \"1s\" to \"1h\"".into()));
                }
                canary => canary,
            },
        };
        let ssh_rekey = match &self.ssh_rekey {
            // RFC 4253, section 9.
            None => Duration::from_hours(1),
            Some(text) => match duration(text, Duration::from_hours(24))? {
                short if short < Duration::from_secs(1) => {
                    return Err((text.span(), "ssh_rekey is from \"1s\" to \"24h\"".into()));
                }
                period => period,
            },
        };
        let max_message = size(self.max_message.as_ref(), 8 << 20, 64 << 10, MAX_MESSAGE)?;
        let response = size(self.response.as_ref(), 64 << 10, 0, 16 << 20)?;
        let terminal = size(self.terminal.as_ref(), 16 << 20, 0, 1 << 30)?;
        let parameters = size(self.parameters.as_ref(), 16 << 10, 0, 1 << 20)?;
        let max_sessions = match &self.max_sessions {
            Some(count) if *count.get_ref() == 0 => {
                return Err((count.span(), "max_sessions is at least 1".into()));
            }
            Some(count) => *count.get_ref(),
            None => 10_000,
        };
        let max_sessions_per_agent = match &self.max_sessions_per_agent {
            Some(count) if !(1..=max_sessions).contains(count.get_ref()) => {
                let message =
                    format!("max_sessions_per_agent is 1 to max_sessions, which is {max_sessions}");
                return Err((count.span(), message));
            }
            Some(count) => *count.get_ref(),
            // One agent leaves room for others.
            None => max_sessions.div_ceil(4),
        };
        let container_stores = match self.container_stores {
            None => CONTAINER_STORES.map(PathBuf::from).into(),
            Some(stores) => {
                stores.into_iter().map(|path| absolute(Some(path), "")).collect::<Result<_, _>>()?
            }
        };
        let deny_sockets = match &self.deny_sockets {
            // Multipath TCP is redirected as TCP is.
            None => kinds::SCTP | kinds::SMC | kinds::RAW | kinds::PACKET | kinds::VSOCK,
            Some(names) => {
                let mut all = 0;
                for name in names {
                    let known = SOCKET_KINDS.iter().find(|(known, _)| known == name.get_ref());
                    let Some((_, kind)) = known else {
                        let names = SOCKET_KINDS.map(|(name, _)| format!("{name:?}")).join(", ");
                        return Err((name.span(), format!("a kind of socket is one of {names}")));
                    };
                    all |= kind;
                }
                all
            }
        };
        Ok(Daemon {
            attach,
            listen,
            pins: absolute(self.pins, "/sys/fs/bpf/chaperone")?,
            control: absolute(self.control, DEFAULT_CONTROL)?,
            log: absolute(self.log, "/var/lib/chaperone/log.sqlite")?,
            authority: absolute(self.authority, "/var/lib/chaperone/authority")?,
            enrolled: absolute(self.enrolled, "/var/lib/chaperone/enrolled.toml")?,
            container_stores,
            durability: self.durability.into(),
            drain,
            canary,
            ssh_rekey,
            max_message,
            response,
            terminal,
            parameters,
            max_sessions,
            max_sessions_per_agent,
            deny_sockets,
            existing: self.existing,
        })
    }
}

/// A span of time, more than none.
fn duration(text: &Spanned<String>, most: Duration) -> Result<Duration, Misplaced> {
    let parsed = text.get_ref().parse::<jiff::SignedDuration>().ok();
    let parsed = parsed.and_then(|duration| Duration::try_from(duration).ok());
    let parsed = parsed.ok_or_else(|| {
        let message = format!("{:?} is no duration: write it as \"10s\" or \"2m\"", text.get_ref());
        (text.span(), message)
    })?;
    if parsed.is_zero() && most < Duration::MAX || parsed > most {
        return Err((text.span(), format!("{:?} is out of range", text.get_ref())));
    }
    Ok(parsed)
}

fn named(name: &Spanned<String>) -> Result<String, String> {
    let text = name.get_ref();
    let fits = (1..=63).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if fits {
        Ok(text.clone())
    } else {
        Err("a name is 1 to 63 letters, digits, '-', '_' and '.'".into())
    }
}

fn absolute(path: Option<Spanned<PathBuf>>, default: &str) -> Result<PathBuf, Misplaced> {
    match path {
        None => Ok(default.into()),
        Some(path) if path.get_ref().is_absolute() => Ok(path.into_inner()),
        Some(path) => Err((path.span(), "a path begins with '/'".into())),
    }
}

fn size(
    text: Option<&Spanned<String>>,
    default: usize,
    least: usize,
    most: usize,
) -> Result<usize, Misplaced> {
    let Some(text) = text else { return Ok(default) };
    let bytes: bytesize::ByteSize = text.get_ref().parse().map_err(|_| {
        (
            text.span(),
            format!("{:?} is no size: write it as \"64 KiB\" or \"8 MiB\"", text.get_ref()),
        )
    })?;
    let show = |bytes: usize| bytesize::ByteSize::b(bytes as u64).display().iec().to_string();
    usize::try_from(bytes.as_u64()).ok().filter(|bytes| (least..=most).contains(bytes)).ok_or_else(
        || {
            (
                text.span(),
                format!("{:?} is out of range: {} to {}", text.get_ref(), show(least), show(most)),
            )
        },
    )
}

/// The path to read: as given, else from the environment, else the default.
pub(crate) fn path(given: Option<PathBuf>) -> Arc<Path> {
    given
        .or_else(|| std::env::var_os("CHAPERONE_CONFIG").map(PathBuf::from))
        .unwrap_or_else(|| DEFAULT_PATH.into())
        .into()
}
