//! Where secrets come from. They are read once, kept in memory that is wiped, and shown nowhere.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    str::FromStr,
};

use secrecy::SecretString;
use zeroize::Zeroizing;

/// Longest file that is read, in bytes.
const LONGEST: u64 = 64 << 10;

/// The place of a secret, as the configuration names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// `file:/path`: the whole file, without a line feed at its end.
    File(PathBuf),
    /// `systemd:name`: a credential of the unit (systemd.exec(5), "Credentials").
    Systemd(String),
    /// `env:/path#NAME`: a variable in an environment file (systemd.exec(5), `EnvironmentFile`).
    Environment(PathBuf, String),
}

/// Why a secret is not to be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretError {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("others than its owner may use {} (mode {mode:04o}): chmod 600 it", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} belongs to user id {owner}, who could change it: give it to root", path.display())]
    Owner { path: PathBuf, owner: u32 },
    #[error("{} is no secret: it is empty, longer than 64 KiB, or no text", .0.display())]
    Unfit(PathBuf),
    #[error("{} has no line {variable}=…", path.display())]
    NoVariable { path: PathBuf, variable: String },
    #[error(
        "the systemd credential {0} needs CREDENTIALS_DIRECTORY: start the daemon as a unit with LoadCredential={0}:…"
    )]
    NoCredentials(String),
}

impl FromStr for Source {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_path = |path: &&str| path.starts_with('/');
        let found = match text.split_once(':') {
            Some(("file", path)) => Some(path).filter(is_path).map(|path| Self::File(path.into())),
            Some(("systemd", name)) if !name.is_empty() && !name.contains('/') => {
                Some(Self::Systemd(name.into()))
            }
            Some(("env", place)) => place
                .rsplit_once('#')
                .filter(|(path, name)| is_path(path) && !name.is_empty())
                .map(|(path, name)| Self::Environment(path.into(), name.into())),
            _ => None,
        };
        // The text itself is not repeated: it may be the secret.
        found.ok_or_else(|| {
            "say where the secret is, not what it is: \"file:/path\", \"systemd:name\" or \"env:/path#NAME\"".into()
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Systemd(name) => write!(f, "systemd:{name}"),
            Self::Environment(path, name) => write!(f, "env:{}#{name}", path.display()),
        }
    }
}

impl Source {
    /// Reads it.
    pub(crate) fn read(&self) -> Result<SecretString, SecretError> {
        match self {
            Self::File(path) => {
                let text = read(path, true)?;
                secret(path, text.strip_suffix('\n').unwrap_or(&text))
            }
            Self::Systemd(name) => {
                let folder = std::env::var_os("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| SecretError::NoCredentials(name.clone()))?;
                // Its folder is the unit's own (systemd.exec(5)).
                let path = Path::new(&folder).join(name);
                let text = read(&path, false)?;
                secret(&path, text.strip_suffix('\n').unwrap_or(&text))
            }
            Self::Environment(path, variable) => {
                let text = read(path, true)?;
                let value = variable_of(&text, variable).ok_or_else(|| {
                    SecretError::NoVariable { path: path.clone(), variable: variable.clone() }
                })?;
                secret(path, value)
            }
        }
    }
}

fn secret(path: &Path, text: &str) -> Result<SecretString, SecretError> {
    if text.is_empty() || text.contains('\0') {
        return Err(SecretError::Unfit(path.into()));
    }
    Ok(SecretString::from(text.to_owned()))
}

fn read(path: &Path, guarded: bool) -> Result<Zeroizing<String>, SecretError> {
    let fail = |source| SecretError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(fail)?;
    let about = file.metadata().map_err(fail)?;
    if guarded {
        let mode = about.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(SecretError::Open { path: path.into(), mode });
        }
        let own = nix::unistd::geteuid().as_raw();
        if about.uid() != 0 && about.uid() != own {
            return Err(SecretError::Owner { path: path.into(), owner: about.uid() });
        }
    }
    if !about.is_file() || about.len() > LONGEST {
        return Err(SecretError::Unfit(path.into()));
    }
    // Room for all of it at once: a buffer that grows leaves copies behind.
    let length = usize::try_from(about.len()).unwrap_or(0);
    let mut bytes = Zeroizing::new(vec![0; length]);
    file.read_exact(&mut bytes).map_err(fail)?;
    let text = str::from_utf8(&bytes).map_err(|_| SecretError::Unfit(path.into()))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// The last assignment counts. Quotes around the whole value go; there are no escapes.
fn variable_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let assigned = |line: &'a str| line.trim().strip_prefix(name)?.strip_prefix('=');
    let value = text.lines().filter_map(assigned).next_back()?;
    let quoted = ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote).and_then(|v| v.strip_suffix(*quote)));
    Some(quoted.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_password_in_the_configuration_is_refused_and_not_repeated() {
        for text in ["hunter2", "file:relative", "systemd:", "systemd:a/b", "env:/x", "env:/x#"] {
            let error = Source::from_str(text).expect_err(text);
            assert!(!error.contains("hunter2"), "{error}");
        }
        for text in ["file:/a", "systemd:prod-db", "env:/etc/a.env#DB"] {
            assert_eq!(Source::from_str(text).expect(text).to_string(), text);
        }
    }

    #[test]
    fn p6_secrets_are_read_from_files_that_are_their_owners_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("s");
        fs::write(&path, "word\n").expect("written");
        fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).expect("changed");
        let source = Source::File(path.clone());
        assert!(source.read().expect_err("open").to_string().contains("chmod 600"));
        fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("changed");
        let read = source.read().expect("a secret");
        assert_eq!(read.expose_secret(), "word");
        assert!(!format!("{read:?}").contains("word"));

        fs::write(&path, "# A=no\nA=first\nB=\"two words\"\nA='last'\nC=\n").expect("written");
        let variable = |name: &str| Source::Environment(path.clone(), name.into()).read();
        assert_eq!(variable("A").expect("there").expose_secret(), "last");
        assert_eq!(variable("B").expect("there").expose_secret(), "two words");
        assert!(matches!(variable("C"), Err(SecretError::Unfit(_))));
        assert!(matches!(variable("D"), Err(SecretError::NoVariable { .. })));
    }
}
