//! `[[agent]]`: whose connections are taken, which version that is, and what is done in doubt.

use std::{
    collections::{HashMap, HashSet},
    path::{Component, Path, PathBuf},
};

use chaperone_kernel::Egress;
use chaperone_model::{AgentName, Digest, Doubt};
use semver::VersionReq;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use toml::Spanned;

use super::{Misplaced, named};
use crate::addresses::TargetAddress;

/// Longest name of a unit, and longest path of a cgroup, in bytes: what the kernel side compares.
const UNIT: usize = chaperone_kernel::UNIT_NAME - 1;
const PATH: usize = chaperone_kernel::CGROUP_PATH - 1;
/// Longest version, in bytes.
const LONGEST: usize = 128;

#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) name: AgentName,
    pub(crate) select: Select,
    pub(crate) version: Option<VersionRule>,
    /// The versions that are allowed.
    pub(crate) versions: Option<VersionRange>,
    pub(crate) binaries: Binaries,
    pub(crate) images: Binaries,
    pub(crate) answers: Answers,
    /// What is done where it goes to what is neither a target nor in `reach`.
    pub(crate) egress: Option<Egress>,
    pub(crate) reach: Vec<TargetAddress>,
}

/// Which processes are an agent's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Select {
    /// What the kernel looks at.
    pub(crate) scope: Scope,
    /// One of these programs or scripts is in the lineage; empty for any.
    pub(crate) programs: Vec<Digest>,
    /// One of these images is what its container was started from; empty for any, and for none.
    pub(crate) images: Vec<Digest>,
}

impl Select {
    /// Whether all processes of the scope are meant.
    fn takes_all(&self) -> bool {
        self.programs.is_empty() && self.images.is_empty()
    }

    /// The number by which the kernel knows the scope. It stays the same when the configuration's
    /// order changes, because processes keep it as long as they live.
    pub(crate) fn number(&self) -> u32 {
        let hash = Sha256::digest(format!("{:?}", self.scope));
        hash.first_chunk().map_or(0, |head| u32::from_be_bytes(*head))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A user id, and the subordinate user ids of its account (subuid(5)).
    User(u32),
    /// A unit of the system's service manager.
    Unit(String),
    /// A cgroup v2, as a path from the root of its tree, with all below it.
    Cgroup(PathBuf),
}

/// How an agent's version is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum VersionRule {
    /// It stands here.
    Literal(String),
    /// By the SHA-256 of a program or script.
    Digest(HashMap<Digest, String>),
    /// By the digest of the container's image.
    Image(HashMap<Digest, String>),
    /// In this file's first line.
    File(PathBuf),
    /// The version of this installed package.
    Package(String),
    /// In this variable of the first process's environment: the agent's own word.
    Environment(String),
}

/// Versions that are allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VersionRange(VersionReq);

impl VersionRange {
    /// Whether a version is in the range. What is missing of its three numbers counts as 0; what
    /// cannot be read as a version is in no range.
    pub(crate) fn allows(&self, version: &str) -> bool {
        let version = version.trim().trim_start_matches('v');
        let end = version.find(['-', '+', '~']).unwrap_or(version.len());
        let (numbers, rest) = version.split_at(end);
        let missing = 2_usize.saturating_sub(numbers.matches('.').count());
        // Debian writes what comes before a release with a tilde.
        let rest = rest.replace('~', "-");
        semver::Version::parse(&format!("{numbers}{}{rest}", ".0".repeat(missing)))
            .is_ok_and(|version| self.0.matches(&version))
    }
}

/// Which programs an agent may run, or images its container may be started from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Binaries {
    #[default]
    Any,
    /// Those that ops have enrolled.
    Enrolled,
}

/// What is done in doubt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Answer {
    /// The session is allowed, and the doubt is recorded with it.
    Mark,
    /// The session is refused.
    #[default]
    Refuse,
}

/// By kind of doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Answers {
    unenrolled: Answer,
    version: Answer,
    script: Answer,
    inline: Answer,
    exec: Answer,
    disguise: Answer,
}

impl Default for Answers {
    /// Who asks for enrolled programs or a range of versions means it, and no honest program
    /// disguises itself; the others happen to honest agents as well.
    fn default() -> Self {
        Self {
            unenrolled: Answer::Refuse,
            version: Answer::Refuse,
            script: Answer::Mark,
            inline: Answer::Mark,
            exec: Answer::Mark,
            disguise: Answer::Refuse,
        }
    }
}

impl Answers {
    /// Whether a session is refused for a doubt.
    pub(crate) fn refuses(self, doubt: &Doubt) -> bool {
        let answer = match doubt {
            Doubt::Unenrolled { .. } | Doubt::UnenrolledImage(_) | Doubt::NoImage(_) => {
                self.unenrolled
            }
            Doubt::Version(_) | Doubt::NoVersion(_) => self.version,
            Doubt::ScriptChanged(_) => self.script,
            Doubt::Inline(_) => self.inline,
            Doubt::Exec(_) => self.exec,
            Doubt::Disguised { .. } => self.disguise,
            Doubt::Cut => Answer::Mark,
            Doubt::NoAgent => Answer::Refuse,
        };
        answer == Answer::Refuse
    }
}

/// Checks all agents.
pub(super) fn check(raw: Vec<Raw>) -> Result<Vec<Agent>, Misplaced> {
    let mut names = HashSet::new();
    let mut agents: Vec<Agent> = Vec::new();
    for agent in raw {
        let name = named(&agent.name).map_err(|m| (agent.name.span(), m))?;
        if !names.insert(name.clone()) {
            return Err((agent.name.span(), format!("there is another agent named {name:?}")));
        }
        let span = agent.select.span();
        let select = agent.select.into_inner().check().map_err(|m| (span.clone(), m))?;
        for other in &agents {
            if other.select.scope == select.scope && other.select.takes_all() {
                let message = format!(
                    "agent {} comes first and takes all of these processes: say by `programs` or `images` which are its own, or put it last",
                    other.name
                );
                return Err((span, message));
            }
            // Two scopes in one number are one in four thousand millions.
            if other.select.number() == select.number() && other.select.scope != select.scope {
                return Err((
                    span,
                    "this selector cannot be told from another's: use another way to select".into(),
                ));
            }
        }
        let version = match agent.version {
            None => None,
            Some(raw) => {
                let span = raw.span();
                Some(raw.into_inner().check().map_err(|m| (span, m))?)
            }
        };
        let versions = match agent.versions {
            None => None,
            Some(range) if version.is_none() => {
                return Err((
                    range.span(),
                    "a range of versions needs a `version` to be known by".into(),
                ));
            }
            Some(range) => {
                Some(VersionReq::parse(range.get_ref()).map(VersionRange).map_err(|error| {
                    (
                        range.span(),
                        format!("this is no range of versions such as \">=1.4, <2\": {error}"),
                    )
                })?)
            }
        };
        if let (Some(VersionRule::Literal(text)), Some(range)) = (&version, &versions)
            && !range.allows(text)
        {
            let message = format!("version {text:?} is not in the range `versions`");
            return Err((agent.name.span(), message));
        }
        if let Some(doubt) = &agent.doubt {
            held(doubt)?;
        }
        let mut reach = Vec::new();
        for address in agent.reach.iter().flatten() {
            let parsed = address.get_ref().parse().map_err(|m: String| (address.span(), m))?;
            reach.push(parsed);
        }
        if agent.reach.is_some() && agent.egress.is_none() {
            let message = "reach lists what egress = \"record\" or \"deny\" lets alone: without that it has no use";
            return Err((agent.name.span(), message.into()));
        }
        let answers = match agent.doubt {
            None => Answers::default(),
            Some(doubt) => {
                let span = doubt.span();
                Answers::deserialize(doubt.into_inner())
                    .map_err(|error| (span, super::suggest(error.message())))?
            }
        };
        agents.push(Agent {
            name: AgentName(name.into()),
            select,
            version,
            versions,
            binaries: agent.binaries,
            images: agent.images,
            answers,
            egress: agent.egress.map(Into::into),
            reach,
        });
    }
    Ok(agents)
}

/// What waits for a person is a statement, not a session: that is for a rule.
fn held(doubt: &Spanned<toml::Table>) -> Result<(), Misplaced> {
    if doubt.get_ref().values().any(|value| value.as_str() == Some("hold")) {
        let message = "a session cannot be held: mark it, and hold its statements by a rule with when = { doubt = \"…\" }";
        return Err((doubt.span(), message.into()));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Raw {
    name: Spanned<String>,
    select: Spanned<RawSelect>,
    version: Option<Spanned<RawVersion>>,
    versions: Option<Spanned<String>>,
    #[serde(default)]
    binaries: Binaries,
    #[serde(default)]
    images: Binaries,
    doubt: Option<Spanned<toml::Table>>,
    egress: Option<RawEgress>,
    reach: Option<Vec<Spanned<String>>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawEgress {
    Record,
    Deny,
}

impl From<RawEgress> for Egress {
    fn from(raw: RawEgress) -> Self {
        match raw {
            RawEgress::Record => Self::Record,
            RawEgress::Deny => Self::Deny,
        }
    }
}

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "a version, or one of { file = \"/path\" }, { sha256 = { \"…\" = \"1.0\" } }, { image = { \"sha256:…\" = \"1.0\" } }, { package = \"name\" }, { env = \"NAME\" }"
)]
enum RawVersion {
    Literal(String),
    Rule(RawVersionRule),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVersionRule {
    file: Option<PathBuf>,
    sha256: Option<HashMap<String, String>>,
    image: Option<HashMap<String, String>>,
    package: Option<String>,
    env: Option<String>,
}

impl RawVersion {
    fn check(self) -> Result<VersionRule, String> {
        let rule = match self {
            Self::Literal(text) if text.trim().is_empty() => {
                return Err("a version is not empty".into());
            }
            Self::Literal(text) if text.contains(char::is_control) || text.len() > LONGEST => {
                return Err(format!("a version is one line of at most {LONGEST} bytes"));
            }
            Self::Literal(text) => return Ok(VersionRule::Literal(text.trim().to_owned())),
            Self::Rule(rule) => rule,
        };
        match (rule.file, rule.sha256, rule.image, rule.package, rule.env) {
            (Some(file), None, None, None, None) if file.is_absolute() => {
                Ok(VersionRule::File(file))
            }
            (Some(_), None, None, None, None) => Err("a path begins with '/'".into()),
            (None, Some(all), None, None, None) => {
                let all = all.into_iter().map(|(hash, version)| Ok((digest(&hash)?, version)));
                all.collect::<Result<_, _>>().map(VersionRule::Digest)
            }
            (None, None, Some(all), None, None) => {
                let all = all.into_iter().map(|(hash, version)| Ok((image(&hash)?, version)));
                all.collect::<Result<_, _>>().map(VersionRule::Image)
            }
            (None, None, None, Some(name), None) => {
                let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-._:".contains(&b));
                if !fits || name.is_empty() || name.starts_with('-') {
                    return Err(format!("{name:?} is no package's name"));
                }
                Ok(VersionRule::Package(name))
            }
            (None, None, None, None, Some(name)) => {
                if name.is_empty() || name.contains(['=', '\0']) {
                    return Err(format!("{name:?} is no variable's name"));
                }
                Ok(VersionRule::Environment(name))
            }
            _ => {
                Err("a version is known by exactly one of file, sha256, image, package, env".into())
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSelect {
    user: Option<User>,
    unit: Option<String>,
    slice: Option<String>,
    cgroup: Option<PathBuf>,
    programs: Option<Vec<String>>,
    images: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a user's name, or a user id")]
enum User {
    Id(u32),
    Name(String),
}

impl RawSelect {
    fn check(self) -> Result<Select, String> {
        if self.programs.as_ref().is_some_and(Vec::is_empty) {
            return Err("programs names none: leave it out for any".into());
        }
        let programs = self.programs.unwrap_or_default();
        let programs = programs.iter().map(|text| digest(text)).collect::<Result<_, _>>()?;
        if self.images.as_ref().is_some_and(Vec::is_empty) {
            return Err("images names none: leave it out for any".into());
        }
        let images = self.images.unwrap_or_default();
        let images = images.iter().map(|text| image(text)).collect::<Result<_, _>>()?;
        let scope = match (self.user, self.unit, self.slice, self.cgroup) {
            (Some(User::Id(id)), None, None, None) => in_scope(id)?,
            (Some(User::Name(name)), None, None, None) => {
                match nix::unistd::User::from_name(&name) {
                    Ok(Some(user)) => in_scope(user.uid.as_raw())?,
                    Ok(None) => {
                        return Err(format!("there is no user named {name:?} on this host"));
                    }
                    Err(errno) => {
                        return Err(format!("the user {name:?} cannot be looked up: {errno}"));
                    }
                }
            }
            (None, Some(unit), None, None) => {
                let kinds = [".service", ".scope"];
                if !kinds.iter().any(|kind| unit.ends_with(kind)) || !is_name(&unit, UNIT) {
                    return Err("a unit's name ends with .service or .scope".into());
                }
                Scope::Unit(unit)
            }
            (None, None, Some(slice), None) => Scope::Cgroup(slice_path(&slice)?),
            (None, None, None, Some(path)) => {
                let path = path.components().collect::<PathBuf>();
                let up = path.components().any(|part| part == Component::ParentDir);
                if !path.starts_with("/") || path == Path::new("/") || up {
                    return Err(
                        "cgroup is a path from the root of the cgroup v2 tree, such as \"/agents.slice\""
                            .into(),
                    );
                }
                if path.as_os_str().len() > PATH {
                    return Err(format!("a cgroup's path has at most {PATH} bytes"));
                }
                Scope::Cgroup(path)
            }
            _ => {
                return Err("select by user, unit, slice or cgroup: exactly one of them".into());
            }
        };
        Ok(Select { scope, programs, images })
    }
}

/// `a-b.slice` is in `a.slice` (systemd.slice(5)).
fn slice_path(name: &str) -> Result<PathBuf, String> {
    let parts = name.strip_suffix(".slice").filter(|parts| is_name(parts, UNIT));
    let parts = parts.ok_or_else(|| "a slice's name ends with .slice".to_owned())?;
    let mut path = PathBuf::from("/");
    let mut so_far = String::new();
    for part in parts.split('-') {
        if part.is_empty() {
            return Err(format!("{name:?} is no slice's name"));
        }
        if !so_far.is_empty() {
            so_far.push('-');
        }
        so_far.push_str(part);
        path.push(format!("{so_far}.slice"));
    }
    if path.as_os_str().len() > PATH {
        return Err(format!("a slice's path has at most {PATH} bytes"));
    }
    Ok(path)
}

fn is_name(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && !text.contains(['/', '\0'])
}

fn digest(text: &str) -> Result<Digest, String> {
    text.parse().map_err(|()| format!("{text:?} is no SHA-256: 64 hexadecimal digits"))
}

/// An image's id, or the digest of its manifest.
pub(crate) fn image(text: &str) -> Result<Digest, String> {
    let digest = text.strip_prefix("sha256:").and_then(|digits| digits.parse().ok());
    digest
        .ok_or_else(|| format!("{text:?} is no image's digest: sha256: and 64 hexadecimal digits"))
}

/// The daemon's own connections must never come back to it.
fn in_scope(uid: u32) -> Result<Scope, String> {
    if nix::unistd::geteuid().as_raw() == uid {
        return Err(format!(
            "user id {uid} is the daemon's own: an agent needs an account of its own"
        ));
    }
    if uid == 0 {
        return Err(
            "root can undo whatever chaperone does: an agent needs an account of its own".into()
        );
    }
    Ok(Scope::User(uid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_take_versions_as_people_write_them() {
        let range = VersionRange(VersionReq::parse(">=1.4, <2").expect("a range"));
        for version in ["1.4", "1.4.2", "v1.9.0", "1.10", " 1.4.2+deb12u1 "] {
            assert!(range.allows(version), "{version}");
        }
        for version in ["1.3.9", "2", "2.0.0", "1.4~rc1", "latest", "", "1.x"] {
            assert!(!range.allows(version), "{version}");
        }
    }

    #[test]
    fn an_image_is_named_by_its_digest() {
        let version = |text: &str| {
            let toml = format!("version = {{ image = {{ \"{text}\" = \"1.4.2\" }} }}");
            let mut raw: HashMap<String, RawVersion> = toml::from_str(&toml).expect("a version");
            raw.remove("version").expect("it").check()
        };
        let digits = "0a".repeat(32);
        let known = HashMap::from([(Digest([0x0a; 32]), "1.4.2".into())]);
        assert_eq!(version(&format!("sha256:{digits}")), Ok(VersionRule::Image(known)));
        for wrong in [digits.as_str(), "localhost/agent:1", "sha512:0a", "sha256:0a"] {
            assert!(version(wrong).is_err_and(|why| why.contains("no image's digest")), "{wrong}");
        }
    }

    #[test]
    fn slices_are_where_systemd_puts_them() {
        assert_eq!(slice_path("agents.slice"), Ok("/agents.slice".into()));
        assert_eq!(slice_path("a-b-c.slice"), Ok("/a.slice/a-b.slice/a-b-c.slice".into()));
        for wrong in ["agents", "-.slice", "a--b.slice", "a/b.slice", ".slice"] {
            assert!(slice_path(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_scope_keeps_its_number() {
        let select = |scope| Select { scope, programs: Vec::new(), images: Vec::new() };
        let user = select(Scope::User(64001));
        assert_eq!(user.number(), select(Scope::User(64001)).number());
        assert_ne!(user.number(), select(Scope::User(64002)).number());
    }
}
