//! The key that signs the log's checkpoints, and how they are made.
//!
//! Does not belong here: what a checkpoint is (`chaperone-audit`), and where it is sent.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chaperone_audit::{
    Keep, Options, Sealing, make_folder,
    note::{Signer, Verifier},
};
use chaperone_model::{ClockState, Heartbeat};
use nix::time::{ClockId, clock_gettime};
use secrecy::ExposeSecret as _;
use zeroize::Zeroizing;

use crate::{
    clock,
    config::Config,
    daemon::{HOST_NAME, read_line},
};

/// Records after which a checkpoint is made before its time.
const RECORDS: u64 = 1000;
/// What stands around a key in PEM (RFC 7468).
const BEGIN: &str = "-----BEGIN PRIVATE KEY-----";
const END: &str = "-----END PRIVATE KEY-----";

/// How the log is opened for writing.
pub(crate) fn options(config: &Config) -> Result<Options> {
    make_folder(&config.daemon.log)?;
    let signer = signer(config)?;
    publish(config, &signer.verifier())?;
    let boot: Arc<str> = read_line("/proc/sys/kernel/random/boot_id").into();
    let clocks = move || {
        let (clock, error) = match chaperone_kernel::wall_clock() {
            Some((true, error)) => (ClockState::Synchronized, error),
            Some((false, error)) => (ClockState::Unsynchronized, error),
            None => (ClockState::Unknown, 0),
        };
        let since_boot = clock_gettime(ClockId::CLOCK_BOOTTIME).ok();
        Heartbeat {
            at: clock::wall(),
            boot_id: boot.clone(),
            monotonic_us: since_boot.map_or(0, |time| {
                time.tv_sec().unsigned_abs() * 1_000_000 + time.tv_nsec().unsigned_abs() / 1000
            }),
            clock,
            clock_error_us: error,
        }
    };
    let sealing = Sealing {
        signer: Arc::new(signer),
        every: config.log.checkpoint,
        records: RECORDS,
        heartbeat: config.log.heartbeat,
        clocks: Arc::new(clocks),
    };
    let keep = Keep {
        age: config.log.keep_days.map(|days| Duration::from_hours(24 * u64::from(days))),
        size: config.log.max_size,
    };
    Ok(Options { sealing: Some(sealing), keep, ..Options::default() })
}

/// The log's public key, as the daemon left it beside the log. Who trusts nobody on this host has
/// it from where it was enrolled.
pub(crate) fn verifier(config: &Config) -> Result<Verifier> {
    let path = public_path(config);
    let text = fs::read_to_string(&path).with_context(|| {
        format!("cannot read the log's public key {}: has the daemon ever run?", path.display())
    })?;
    Verifier::parse(&text).with_context(|| format!("{} holds no key", path.display()))
}

fn signer(config: &Config) -> Result<Signer> {
    let origin = config.log.origin.clone().unwrap_or_else(|| {
        let host = read_line(HOST_NAME);
        format!("{}/chaperone", if host.is_empty() { "localhost" } else { &host })
    });
    let (place, pem) = if let Some(source) = &config.log.key {
        let secret = source.read().context("the log's key")?;
        (source.to_string(), Zeroizing::new(secret.expose_secret().to_owned()))
    } else {
        let path = suffixed(config, ".key");
        (path.display().to_string(), read_or_make(&path)?)
    };
    let document = document(&pem).with_context(|| {
        format!(
            "{place} holds no private key in PEM: `openssl genpkey -algorithm ed25519` makes one"
        )
    })?;
    Signer::from_pkcs8(&origin, &document).with_context(|| format!("the log's key {place}"))
}

/// The document inside the PEM text.
fn document(pem: &str) -> Option<Zeroizing<Vec<u8>>> {
    let (_, rest) = pem.split_once(BEGIN)?;
    let (body, _) = rest.split_once(END)?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_whitespace().collect());
    BASE64.decode(body.as_bytes()).ok().map(Zeroizing::new)
}

fn read_or_make(path: &Path) -> Result<Zeroizing<String>> {
    match fs::metadata(path) {
        Ok(about) if about.permissions().mode() & 0o077 != 0 => bail!(
            "others than its owner may use {} (mode {:04o}): chmod 600 it",
            path.display(),
            about.permissions().mode() & 0o7777
        ),
        Ok(about) if about.uid() != nix::unistd::geteuid().as_raw() => {
            bail!("{} belongs to user id {}: give it to root", path.display(), about.uid())
        }
        Ok(_) => {
            let text = fs::read_to_string(path);
            return Ok(Zeroizing::new(
                text.with_context(|| format!("reading {}", path.display()))?,
            ));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("reading {}", path.display())),
    }
    let document = Zeroizing::new(Signer::generate()?);
    let pem = Zeroizing::new(format!("{BEGIN}\n{}\n{END}\n", BASE64.encode(&*document)));
    write(path, &pem, 0o600).with_context(|| format!("making the log's key {}", path.display()))?;
    tracing::info!(
        path = %path.display(),
        "made the log's key: enrol its public half off this host, `chaperone log key` shows it"
    );
    Ok(pem)
}

fn publish(config: &Config, verifier: &Verifier) -> Result<()> {
    let path = public_path(config);
    let text = format!("{verifier}\n");
    if fs::read_to_string(&path).is_ok_and(|found| found == text) {
        return Ok(());
    }
    write(&path, &text, 0o644).with_context(|| format!("writing {}", path.display()))
}

/// Whole, or not at all.
pub(crate) fn write(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        fs::DirBuilder::new().recursive(true).create(folder)?;
    }
    let mut next = path.as_os_str().to_owned();
    next.push(".next");
    let next = PathBuf::from(next);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&next, path)
}

fn public_path(config: &Config) -> PathBuf {
    suffixed(config, ".pub")
}

fn suffixed(config: &Config, suffix: &str) -> PathBuf {
    let mut path = config.daemon.log.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_made_by_openssl_is_read() {
        let pem = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n-----END PRIVATE KEY-----\n";
        let signer = Signer::from_pkcs8("h", &document(pem).expect("a document")).expect("a key");
        // RFC 8032, section 7.1, test 1.
        let public = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let bytes = [&[1][..], &BASE64.decode(public).expect("base64")].concat();
        assert!(signer.verifier().to_string().ends_with(&BASE64.encode(bytes)));
    }
}
